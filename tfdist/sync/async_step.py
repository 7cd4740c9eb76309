"""One worker's step of asynchronous training: what it changes, and how that gets to the servers.

- **The optimizer's update** happens once. A step has a number. In front of its update it claims
  the number at the parameter server, under a lock: the version counts on, and whoever comes with
  the same number again (the step was repeated, since its worker died behind the claim) finds
  it taken and applies nothing. Each optimizer of a step counts its own updates, and a step may
  apply one several times. Which lock the update holds is said in
  `tfdist.strategies.server_updates`.
- **State of layers** (what is not trained) is the step's own: it begins with what the server
  holds then, and at the end of the step the server gets the difference added, so that no other
  step's change is lost: a moving average moves by each step's part, a counter counts all. What
  cannot be added (bool, small integers) overwrites what is there. Like the update, that happens
  once.
- **What else the step assigns** (target networks, weights of the user's own, states of RNNs)
  overwrites what is there, at once; where the step is repeated, again.
- **Metrics** are the step's own: they begin at zero, and what was added goes to the
  coordinator, which counts each step once.

Limits: a worker that dies between its claim and the end of its update leaves an
update that is counted and missing, in part or as a whole; never one that is applied
twice. An optimizer cannot be applied in a loop of the graph.
"""

import keras
import tensorflow as tf

from tfdist.compat import graphs
from tfdist.compat.local_state import local_state
from tfdist.compat.variables import held
from tfdist.sync.communicator import ReplicaCommunicator
from tfdist.sync.step import KerasStep

_UPDATES = 64  # at most so many of one optimizer in a step; the claims of a step are apart


class AsyncStep(KerasStep):
    """One worker's step: its updates are claimed, then applied in place.

    Args:
        number: scalar int64 tensor, the step's number.
        examples: scalar int tensor, the examples of its batch.
        updates: the `tfdist.strategies.server_updates.ServerUpdates`, or what answers like it.
        versions: list of `(optimizer, scalar int64 tensor)`, the optimizers that may be applied
            and their versions when the step began to read weights.
        staleness_scaling: bool, whether learning rates are divided by the staleness.
        before_update: the `BeforeUpdate` of the model, or None.

    Attributes:
        version: scalar int64 tensor, the version at which the optimizer was applied that was
            applied first; -1 for none.
        read_version: scalar int64 tensor, that optimizer's version when the step began.
        is_first: scalar bool tensor, whether that update was not applied before.
    """

    def __init__(
        self,
        number,
        examples,
        updates,
        versions=(),
        staleness_scaling=False,
        before_update=None,
    ):
        # The number in the place of the replica's index: other random numbers in each step.
        super().__init__(ReplicaCommunicator(1), number, examples, before_update=before_update)
        self._number, self._server, self._scaling = number, updates, staleness_scaling
        self._read_versions = {id(optimizer): version for optimizer, version in versions}
        self._assigned = set()  # ids of variables
        self._applied = {}  # how often each optimizer was, by id
        self.is_first = tf.constant(True)
        self.version = self.read_version = tf.constant(-1, tf.int64)
        self.learning_rate_factor = None

    # -- state of layers -----------------------------------------------------------

    def note_assignment(self, variable, value):
        super().note_assignment(variable, value)
        self._assigned.add(id(variable))

    def changes(self, state):
        """What the step has made of layers' state; where that is the step's own.

        Args:
            state: list of `(Keras variable, tensor)`, what it began with.

        Returns:
            A list of `(Keras variable, tensor)` for `carry_over`.
        """
        return [
            (variable, _difference(held(variable), began))
            for variable, began in state
            if id(variable) in self._assigned
        ]

    def carry_over(self, changes):
        """Gives the servers what `changes` has found; where state is the servers'."""

        def carried():
            for variable, change in changes:
                target = held(variable)
                (target.assign_add if _can_be_added(change.dtype) else target.assign)(change)
            return tf.constant(True)

        if changes:
            tf.cond(self.is_first, carried, lambda: tf.constant(False))

    # -- optimizers ------------------------------------------------------------------

    def updated(self, optimizer, gradients, variables):
        if graphs.in_a_loop():
            raise ValueError(
                f"{optimizer.name!r} is applied in a loop of the graph, which is one update for a "
                "parameter server. Write a loop of Python: `for _ in range(n)`."
            )
        check_optimizer(optimizer)
        if not optimizer.built and variables:
            self._server.build(optimizer, list(variables))
        return gradients, variables

    def update(self, optimizer, apply, gradients):
        place = self._applied.get(id(optimizer), 0)
        self._applied[id(optimizer)] = place + 1
        if place == _UPDATES:
            raise ValueError(
                f"{optimizer.name!r} was applied more than {_UPDATES} times in one step, more than "
                "a parameter server tells apart. Apply it to a mean of the gradients."
            )
        number = self._number * _UPDATES + place
        whole = self._server.is_applied_as_a_whole(
            optimizer, place, lambda: self._apply(optimizer, apply, gradients, self.version)
        )
        present = [g for g in gradients if g is not None]
        with tf.control_dependencies(tf.nest.flatten(present, expand_composites=True)):
            if whole:
                is_first, version = self._server.of_optimizer(
                    optimizer,
                    lambda: self._claim_and_apply(optimizer, number, apply, gradients),
                )
            else:
                is_first, version = self._server.of_optimizer(
                    optimizer, lambda: self._server.claim(optimizer, number)
                )
                self._apply_if(is_first, optimizer, apply, gradients, version)
        if len(self._applied) == 1 and not place:
            self.is_first, self.version = is_first, version
            self.read_version = self._read_versions.get(id(optimizer), version)

    def _claim_and_apply(self, optimizer, number, apply, gradients):
        is_first, version = self._server.claim(optimizer, number)
        self._apply_if(is_first, optimizer, apply, gradients, version)
        return is_first, version

    def _apply_if(self, is_first, optimizer, apply, gradients, version):
        tf.cond(
            is_first,
            lambda: self._apply(optimizer, apply, gradients, version),
            lambda: tf.constant(False),
        )

    def _apply(self, optimizer, apply, gradients, version):
        if self._scaling:
            began = self._read_versions.get(id(optimizer), version)
            staleness = tf.maximum(version - began, 1)
            self.learning_rate_factor = tf.math.reciprocal(tf.cast(staleness, tf.float32))
        # The number of updates is counted by the claim; schedules and bias corrections see
        # that of this step, not one that others have counted on.
        count = tf.cast(version, optimizer.iterations.dtype)
        with local_state([(optimizer.iterations, count)]):
            apply(gradients)
        self.learning_rate_factor = None
        return tf.constant(True)


def _difference(value, began):
    value = tf.convert_to_tensor(value)
    return value - began if _can_be_added(value.dtype) else value


def _can_be_added(dtype):
    return dtype.is_floating or dtype in (tf.int32, tf.int64)


def check_optimizer(optimizer):
    """Raises ValueError where steps of several workers cannot share an optimizer."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "Loss scaling (mixed_float16) does not work under a ParameterServerStrategy: workers "
            'would change the scale at the same time. Use "mixed_bfloat16", which needs none.'
        )
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError(
            "`gradient_accumulation_steps` has no meaning under a ParameterServerStrategy: each "
            "worker's gradient is applied at once. Use a larger batch."
        )
