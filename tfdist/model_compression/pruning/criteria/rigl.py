"""RigL: sparse from the first step to the last, with masks that move."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    Observation,
    State,
    Tensors,
    Together,
    reset,
    zeros_like,
)
from tfdist.model_compression.pruning.criteria.random import Random
from tfdist.model_compression.pruning.schedules.schedule import fraction

if TYPE_CHECKING:
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class RigL(Criterion):
    """A fixed sparsity: the smallest weights go, as many come back where gradients are largest.

    Masks begin at random. Every `frequency` steps t up to `end`, of the weights that each kernel
    keeps, this part goes:

        alpha / 2 (1 + cos(pi t / end))

    and as many grow, those with the largest absolute gradient of the global batch among all that
    are masked then. They begin at zero; one that has gone in the same step and comes back keeps
    its value. In front of that the step makes its update (in the paper it makes none). The
    schedule is a `Constant`; the paper's allocation is "erdos_renyi".

    Example:

    >>> import tfdist
    >>> compression = tfdist.model_compression
    >>> criterion = compression.RigL(frequency=100, end=7500)  # of 10,000 steps
    >>> settings = {"criterion": criterion, "schedule": compression.Constant(final=0.9)}

    Args:
        alpha: float in [0, 1), the part in the beginning.
        frequency: int, steps between two changes.
        end: int, the step from which masks stay; three quarters of the training in the paper.
            Defaults to None: they never do, and the part stays `alpha`.
        seed: int, of the first masks.

    Reference:
        Evci et al., Rigging the lottery: making all tickets winners, 1911.11134.
    """

    needs_gradients = True
    reversible = True
    comparable = False

    def __init__(
        self, alpha: float = 0.3, frequency: int = 100, end: int | None = None, seed: int = 0
    ) -> None:
        self.alpha = fraction("alpha", alpha)
        self.frequency = integer("frequency", frequency, least=1)
        self.end = None if end is None else integer("end", end, least=1)
        self._random = self.first = Random(seed)

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        if type(structure).__name__ != "Weight":
            return 'it moves single weights: expected structure="weight"'
        if len(schedule.updates()) > 1:
            return "it holds one sparsity from the start: expected a Constant schedule"
        return super().refusal(structure, allocation, schedule)

    def init(self, values: Tensors, together: Together) -> list[list[tf.Tensor]]:
        return zeros_like(values)

    def observe(self, state: State, seen: Observation) -> None:
        def look():
            for (size,), gradient in zip(state, seen.gradients):
                size.assign_add(tf.abs(gradient))
            return True

        tf.cond(seen.changing, look, lambda: False)

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        part = self._part(tf.cast(step, tf.float64))
        found = []
        for value, (size,), mask in zip(values, state, masks):
            stays = _largest(tf.abs(value), mask, part)
            found.append(tf.where(stays, tf.constant(value.dtype.max, value.dtype), size))
        return found

    def changed(self, state: State, values: Tensors, before: Tensors, after: Tensors) -> Tensors:
        reset(state)
        return values

    def _part(self, step):
        if self.end is None:
            return tf.constant(self.alpha, tf.float64)
        return self.alpha / 2 * (1 + tf.cos(math.pi * tf.minimum(step / self.end, 1)))

    def get_config(self) -> dict[str, Any]:
        return {
            "alpha": self.alpha,
            "frequency": self.frequency,
            "end": self.end,
            "seed": self._random.seed,
        }


def _largest(sizes, mask, part):
    """Bool of `mask`'s shape: those of it that stay when the smallest part goes."""
    flat = tf.reshape(tf.where(mask, sizes, -1), [-1])  # what is masked has gone first
    kept = tf.reduce_sum(tf.cast(mask, tf.int64))
    go = tf.cast(part * tf.cast(kept, part.dtype), tf.int64)
    masked = tf.size(flat, tf.int64) - kept
    places = tf.math.invert_permutation(tf.argsort(flat, stable=True))
    return tf.reshape(tf.cast(places, tf.int64) >= masked + go, tf.shape(mask))
