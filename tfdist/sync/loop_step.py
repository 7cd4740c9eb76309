"""The step of a custom training loop, and what every step answers to."""

import tensorflow as tf

from tfdist.compat.variables import held


class Step:
    """One replica's step of a custom training loop: gradients are summed.

    That is what `tf.distribute` promises: the loop divides by the global batch
    size. Clipping and all that follows see the sum.

    Args:
        communicator: a `ReplicaCommunicator`.
        replica_id: scalar int tensor, or None for a single replica.
    """

    weighs_examples = False
    collects_updates = False
    compiles_updates = False

    def __init__(self, communicator, replica_id):
        self.communicator = communicator
        self.num_replicas = communicator.num_replicas
        self.replica_id = replica_id

    def weigh_loss(self, loss, optimizer):
        """What `optimizer.scale_loss` scales, instead of `loss`."""
        return loss

    def note_assignment(self, variable, value):
        """A layer is about to assign `value` to `variable` (a Keras variable) on this replica."""

    def assign(self, variable, value):
        """Assigns what was noted."""
        held(variable).assign(tf.cast(value, held(variable).dtype))

    def note_addition(self, variable, amount):
        """A layer is about to add `amount` to `variable`, by an assignment that is noted."""

    def note_result(self, metric, compute, value):
        """`compute()`, a metric's own `result`, gave `value`."""

    def note_target(self, loss):
        """A tape is asked for the gradient of `loss`."""

    def note_forward_collective(self):
        """The model itself communicates: gradients flow between replicas."""

    def reduce_gradients(self, gradients, optimizer):
        """The gradients that every replica applies; None stays None.

        Args:
            gradients: list of tensors, `tf.IndexedSlices` or None.
            optimizer: the Keras optimizer that will apply them.
        """
        present = [g for g in gradients if g is not None]
        reduced = iter(self.communicator.all_reduce(present))
        return [None if g is None else next(reduced) for g in gradients]

    def before_update(self, optimizer, gradients, variables):
        """What goes on of the gradients that were reduced: here all, as they are.

        Args:
            optimizer: the Keras optimizer.
            gradients: list, what `reduce_gradients` returned.
            variables: list of the Keras variables that they belong to, or None.
        """
        return gradients

    def updated(self, optimizer, gradients, variables):
        """What this replica's optimizer updates, with which gradients: here all of it.

        Args:
            optimizer: the Keras optimizer.
            gradients: list, what `reduce_gradients` returned.
            variables: list of Keras variables; None for those that it was built with.

        Returns:
            `(gradients, variables)`. A step that chooses others (pieces of them) belongs to
            a strategy that has built the optimizer with those (`build_optimizer`).
        """
        return gradients, variables

    def update(self, optimizer, apply, gradients):
        """Calls `apply(gradients)`, the optimizer's own."""
        return apply(gradients)
