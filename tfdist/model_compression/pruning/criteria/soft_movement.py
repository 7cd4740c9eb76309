"""Soft movement: a threshold and a penalty instead of a sparsity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.criteria.criterion import (
    Observation,
    State,
    Tensors,
)
from tfdist.model_compression.pruning.criteria.movement import Movement

if TYPE_CHECKING:
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class SoftMovement(Movement):
    """A weight stays while sigmoid(S) is above a threshold; a penalty lowers all scores.

    The scores are trained, by plain gradient descent, with the loss that has the penalty added:

        S = S - learning_rate (g w + penalty sigmoid(S) (1 - sigmoid(S)))

    **The schedule is one of the threshold, not of the sparsity**: `Cubic(final=0.1, ...)` raises
    it from 0 to 0.1, as in the paper. All scores begin at sigmoid(0) = 0.5. Which sparsity comes
    out hangs on the penalty and on the data, and `report()` of the callback says it.

    Args:
        penalty: float, of a score's sigmoid; the larger, the sparser. Constant.
        learning_rate: float, of the scores.

    Reference:
        Sanh et al., Movement pruning: adaptive sparsity by fine-tuning, 2005.07683, section 4.
    """

    comparable = False
    by_threshold = True

    def __init__(self, penalty: float = 1.0, learning_rate: float = 0.01) -> None:
        self.penalty = _positive("penalty", penalty)
        self.learning_rate = _positive("learning_rate", learning_rate)

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        if structure.fixed is not None:
            return f"it has no exact sparsity, and {type(structure).__name__} has no other"
        if type(allocation).__name__ != "Uniform":
            return 'its threshold says what goes where: expected allocation="uniform"'
        if schedule.final >= 0.5:
            return (
                "its schedule is one of the threshold, not of the sparsity, and all scores begin "
                f"at 0.5: expected final below 0.5 (the paper has 0.1), received {schedule.final}"
            )
        return super().refusal(structure, allocation, schedule)

    def observe(self, state: State, seen: Observation) -> None:
        for (score, _), slope in zip(state, self._slopes(state, seen)):
            chance = tf.sigmoid(score)
            penalty = self.penalty * chance * (1 - chance)
            score.assign_sub(self.learning_rate * (slope + penalty))

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.sigmoid(score) for score, _ in state]

    def get_config(self) -> dict[str, Any]:
        return {"penalty": self.penalty, "learning_rate": self.learning_rate}


def _positive(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"{name}={value!r}: expected a number above 0.")
    return float(value)
