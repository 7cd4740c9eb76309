"""Group sparsity: training that drives whole groups to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.arguments import number
from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    Observation,
    State,
    Tensors,
)

if TYPE_CHECKING:
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class GroupSparsity(Criterion):
    """A channel is worth the norm of all kernels' weights that go with it, and training lowers it.

    With I_k the sum of the squares of a channel's weights, over the kernels that make it and
    those that read it, each gradient gets a penalty's own in front of its update:

        g + strength gamma_k w,    gamma_k = 2 ^ (alpha (I_max - I_k) / (I_max - I_min))

    with the largest and the smallest I of the channels of the group that stay. So the smallest
    channels shrink 2 ^ alpha times as fast as the largest, which see a plain L2 penalty of
    strength / 2. A weight between two groups (an output of one, an input of the other) gets the
    penalties of both. Give a schedule that begins late enough.

    As with `L2` the score is the mean of the squares. The reported loss does not hold the penalty;
    its gradient is added to the reduced one, in front of clipping and accumulation.

    Args:
        strength: float of at least 0.
        alpha: float of at least 0; 4 in the paper.

    Reference:
        Fang et al., DepGraph: towards any structural pruning, 2301.12900.
    """

    adjusts_gradients = True

    def __init__(self, strength: float = 1e-4, alpha: float = 4.0) -> None:
        self.strength = number("strength", strength, least=0)
        self.alpha = number("alpha", alpha, least=0)

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        if structure.kind not in ("filter", "head"):
            return 'it compares the channels of a group: expected structure="filter" or "head"'
        return super().refusal(structure, allocation, schedule)

    def adjusted(self, state: State, seen: Observation) -> list[tf.Tensor]:
        sizes = seen.together([tf.square(value) for value in seen.values])
        factors = [self._factor(size, mask) for size, mask in zip(sizes, seen.masks)]
        rows = zip(seen.gradients, seen.values, seen.spread(factors))
        return [g + self.strength * factor * value for g, value, factor in rows]

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.square(value) for value in values]

    def _factor(self, size, mask):
        """gamma_k of the channels of a group, `(size,)`; 0 of those that are masked."""
        least = tf.reduce_min(tf.where(mask, size, tf.constant(np.inf, size.dtype)))
        most = tf.reduce_max(size)
        part = tf.math.divide_no_nan(most - size, most - least)
        return tf.where(mask, tf.pow(tf.constant(2.0, size.dtype), self.alpha * part), 0)

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength, "alpha": self.alpha}
