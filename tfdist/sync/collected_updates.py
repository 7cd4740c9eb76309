"""The updates of a step, apart from what comes before them.

XLA compiles the forward and backward pass of a step as one program, which can hold no
collective (`strategies/compiled_step.py`). So optimizers that are applied in there leave their
gradients, and are applied to them where it has returned.
"""

import contextlib
import copy

import tensorflow as tf

from tfdist.compat.step_logs import MetricsOfStep
from tfdist.sync.layer_state import LayerState

# Sparse gradients of larger tables stay sparse.
_DENSE_ELEMENTS = 2**24


class CommunicatesError(Exception):
    """The forward pass communicates, where it must not."""


class CollectsUpdates:
    """Mixed into a step.

    Attributes:
        collects_updates: whether optimizers leave their gradients here.
        compiles_updates: whether XLA compiles what the optimizer does.
    """

    collects_updates = False
    compiles_updates = False

    @contextlib.contextmanager
    def collecting_updates(self):
        """Optimizers that are applied inside do nothing but leave their gradients here.

        Yields:
            A list; at the end of the context it holds a list of gradients for each
            call of `apply`.

        Raises:
            CommunicatesError: what happens inside communicates; the step is what it was.
        """
        before = {name: _copied(value) for name, value in vars(self).items()}
        gradients = []
        self.communicator, self.collects_updates = _Silent(self.num_replicas), True
        try:
            yield gradients
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        self.communicator, self.collects_updates = before["communicator"], False
        gradients += [values for _, _, values in self._updates]

    def update(self, optimizer, apply, gradients):
        sparse = [g for g in gradients if isinstance(g, tf.IndexedSlices)]
        if not self.compiles_updates or not _may_be_dense(optimizer, sparse):
            return apply(gradients)
        # XLA knows no sparse ones; optimizers with momenta make them dense anyway.
        dense = [tf.convert_to_tensor(g) if g is not None else None for g in gradients]
        # A closure: TensorFlow would take what a `partial` holds for arguments.
        compiled = tf.function(lambda dense: apply(dense), jit_compile=True, autograph=False)
        return compiled(dense)

    def collect_update(self, optimizer, gradients, variables):
        """Takes what `optimizer.apply` was called with."""
        self._updates.append((optimizer, variables, gradients))

    def take_updates(self):
        """List of `(optimizer, variables)` in the order of the collected gradients."""
        updates, self._updates = self._updates, []
        return [(optimizer, variables) for optimizer, variables, _ in updates]


def _copied(value):
    if isinstance(value, (dict, list, set)):
        return value.copy()
    if isinstance(value, (LayerState, MetricsOfStep)):  # what they hold
        new = copy.copy(value)
        vars(new).update({name: _copied(held) for name, held in vars(value).items()})
        return new
    return value


class _Silent:
    """A communicator for what must not communicate."""

    def __init__(self, num_replicas):
        self.num_replicas = num_replicas

    def all_reduce(self, values):
        raise CommunicatesError


def _may_be_dense(optimizer, sparse):
    """Whether gradients that are `tf.IndexedSlices` may as well be tensors.

    Not where they are clipped: Keras clips each occurrence of a row by itself. Nor
    where tables are so large that only a few of their rows should be touched.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clips = optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue
    shapes = [tf.TensorShape(tf.get_static_value(g.dense_shape)) for g in sparse]
    sizes = [shape.num_elements() for shape in shapes]
    return not sparse or (not clips and None not in sizes and sum(sizes) <= _DENSE_ELEMENTS)
