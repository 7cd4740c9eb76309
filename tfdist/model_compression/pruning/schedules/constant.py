"""Constant sparsity."""

from __future__ import annotations

from typing import Any

import keras

from tfdist.arguments import integer
from tfdist.model_compression.pruning.schedules.schedule import Schedule, fraction


@keras.saving.register_keras_serializable(package="tfdist")
class Constant(Schedule):
    """All at once: the final sparsity from one step on.

    Example:

    >>> import tfdist
    >>> schedule = tfdist.model_compression.Constant(final=0.5, begin=100)
    >>> schedule.updates()
    [(100, 0.5)]

    Args:
        final: float in [0, 1), which part of the weights is zero.
        begin: int, behind how many steps of `fit`; 0: in front of the first.
    """

    def __init__(self, final: float, begin: int = 0) -> None:
        self.final = fraction("final", final)
        self.begin = integer("begin", begin, least=0)

    def updates(self) -> list[tuple[int, float]]:
        return [(self.begin, self.final)]

    def get_config(self) -> dict[str, Any]:
        return {"final": self.final, "begin": self.begin}
