"""Slimming: channels whose batch normalization scales them to nothing go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfdist.arguments import number
from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    Observation,
    State,
    Tensors,
)

if TYPE_CHECKING:
    from tfdist.model_compression.channels.groups import Group, Member
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Slimming(Criterion):
    """A channel is worth the mean of the absolute scales of its batch normalizations.

    While `fit` trains, the scales gamma have an L1 penalty, until their channel goes:

        loss + strength sum |gamma|

    so that those of channels that are not needed become small. Give a schedule that begins late
    enough for that; the paper's allocation is "global". Filters and neurons without a batch
    normalization that is trained and has a scale are skipped.

    The reported loss does not hold the penalty; its gradient is added to the reduced one, in
    front of clipping and accumulation.

    Example:

    >>> import tfdist
    >>> compression = tfdist.model_compression
    >>> settings = {
    ...     "criterion": compression.Slimming(strength=1e-4),
    ...     "structure": "filter",
    ...     "schedule": compression.Constant(final=0.5, begin=2000),
    ...     "allocation": "global",
    ... }

    Args:
        strength: float of at least 0, of the penalty; 1e-5 to 1e-4 in the paper.

    Reference:
        Liu et al., Learning efficient convolutional networks through network slimming, 1708.06519.
    """

    adjusts_gradients = True

    def __init__(self, strength: float = 1e-4) -> None:
        self.strength = number("strength", strength, least=0)

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        if structure.kind != "filter":
            return 'it looks at scales of batch normalizations: expected structure="filter"'
        return super().refusal(structure, allocation, schedule)

    def scored(self, group: Group) -> tuple[list[Member], str | None]:
        found = [one for one in group.members if _is_scale(one)]
        served = {int(channel) for one in found for channel in one.channels}
        if len(served - {-1}) < group.size:
            return found, "no batch normalization that is trained scales all of its channels"
        return found, None

    def adjusted(self, state: State, seen: Observation) -> list[tf.Tensor]:
        return [g + self.strength * tf.sign(v) for g, v in zip(seen.gradients, seen.values)]

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.abs(value) for value in values]

    def get_config(self) -> dict[str, Any]:
        return {"strength": self.strength}


def _is_scale(member):
    layer = member.layer
    known = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    return known and member.variable is layer.gamma
