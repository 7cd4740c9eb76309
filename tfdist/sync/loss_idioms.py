"""Losses that have been averaged for several replicas already, or not at all.

Under `fit` a train step's loss counts as the mean over its replica's examples. Programs that
were written for custom loops divide by the global batch, or by the number of replicas; then
their gradient is too small. Whether a constant in a loss stands for that cannot be known, so
this warns, once a training, where the step is traced, and changes nothing.

| the loss of a step on r of N replicas, b_r of B examples | gives |
|---|---|
| `tf.reduce_mean(per)`, `loss_object(y, p)` | what one process gives |
| `tf.nn.compute_average_loss(per, global_batch_size=B)` | what one process gives |
| `tf.nn.scale_regularization_loss(sum(self.losses))` | what one process gives |
| `tf.reduce_sum(per) / tf.cast(tf.shape(x)[0], "float32")` | what one process gives |
| `tf.reduce_sum(per) / B` | b_r / B of it, with a warning |
| `loss / strategy.num_replicas_in_sync` | 1 / N of it, with a warning |
| `loss_object(y, p)` with `reduction="sum"` or `"none"` | b_r / B of it, with a warning |
"""

import math
import warnings

from tfdist.compat import graphs


class LossIdioms:
    """Looks at the losses of one replica's step.

    Args:
        num_replicas: int, N.
        batch_size: int, the examples of a global batch, B, or None if that is not known.
        own_step: whether the user wrote the train step, or how it computes its loss.
    """

    def __init__(self, num_replicas, batch_size=None, own_step=True):
        self._num_replicas, self._batch_size = num_replicas, batch_size
        self.own_step = own_step
        self._right = {}  # tensors that are right as they are, by id
        self._unreduced = {}

    def note_right(self, value):
        """`value` is a loss as it should be; what it was computed from is not looked at."""
        self._right[id(value)] = value

    def note_unreduced(self, value):
        """A loss object returned `value` with `reduction="sum"` or "none"."""
        self._unreduced[id(value)] = value

    def look_at(self, loss):
        """Warns if `loss`, a tensor, does not look like a mean over this replica's examples."""
        if not graphs.in_graph(loss):
            return
        factors = graphs.Factors(loss, self._right, self._unreduced)
        for sign, number, rank in factors.found:
            meaning = self._meaning(number if sign == "/" else 1 / (number or math.inf), rank)
            if meaning is not None:
                did = "divided by" if sign == "/" else "multiplied by one over"
                _warn(f"it is {did} {meaning}")
                return
        ends = [t for t in factors.passed if id(t) in self._unreduced]
        means = [t for t in factors.passed if t.op.type == "Mean" and id(t) not in self._unreduced]
        if ends and not means:
            _warn('it comes from a loss object with reduction="sum" or "none"')

    def _meaning(self, divisor, rank):
        if self._batch_size and _same(divisor, self._batch_size):
            return f"{self._batch_size}, the size of the global batch"
        if rank == 0 and _same(divisor, self._num_replicas):
            return f"{self._num_replicas}, the number of replicas"
        return None


def _same(number, whole):
    return math.isclose(number, whole, rel_tol=1e-6)


def _warn(what):
    warnings.warn(
        f"The loss of a train step: {what}. Under `fit` tfdist takes a step's loss for the mean "
        "over its replica's examples and averages over replicas itself, so that a loss which has "
        "been divided for that has too small a gradient. Return `tf.reduce_mean` of the examples' "
        "losses, or say `tf.nn.compute_average_loss(per_example, global_batch_size=...)`, which "
        "tfdist knows. If the number is a part of the loss itself, nothing is wrong.",
        stacklevel=2,
    )
