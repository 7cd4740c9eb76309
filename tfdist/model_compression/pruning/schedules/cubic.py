"""Gradual sparsity, fast at first."""

from __future__ import annotations

from typing import Any

import keras

from tfdist.arguments import integer
from tfdist.model_compression.pruning.schedules.schedule import Schedule, fraction


@keras.saving.register_keras_serializable(package="tfdist")
class Cubic(Schedule):
    """From `initial` to `final` sparsity, fast at first and ever more slowly.

    Behind step t, for t in begin, begin + frequency, ..., end:

        s(t) = final + (initial - final) (1 - (t - begin) / (end - begin))^3

    Example:

    >>> import tfdist
    >>> schedule = tfdist.model_compression.Cubic(final=0.8, begin=100, end=300, frequency=100)
    >>> schedule.updates()
    [(100, 0.0), (200, 0.7), (300, 0.8)]

    Args:
        final: float in [0, 1), which part of the weights is zero in the end.
        begin, end: int, behind how many steps of `fit` it begins and ends.
        initial: float in [0, 1), at `begin`.
        frequency: int, steps between two changes of the masks; defaults to 100, or to a tenth
            of the way where that is shorter than 1000 steps. The last change is at `end`.

    Reference:
        Zhu and Gupta, To prune, or not to prune, 1710.01878, equation 1.
    """

    def __init__(
        self,
        final: float,
        begin: int,
        end: int,
        initial: float = 0.0,
        frequency: int | None = None,
    ) -> None:
        self.final, self.initial = fraction("final", final), fraction("initial", initial)
        self.begin = integer("begin", begin, least=0)
        self.end = integer("end", end, least=self.begin + 1)
        if self.initial > self.final:
            raise ValueError(
                f"initial={initial!r} is larger than final={final!r}: expected a sparsity that "
                "grows."
            )
        steps = self.end - self.begin
        default = min(100, max(1, steps // 10))
        self.frequency = integer("frequency", default if frequency is None else frequency, least=1)

    def updates(self) -> list[tuple[int, float]]:
        steps = [*range(self.begin, self.end, self.frequency), self.end]
        return [(step, self._sparsity(step)) for step in steps]

    def _sparsity(self, step):
        left = 1 - (step - self.begin) / (self.end - self.begin)
        return round(self.final + (self.initial - self.final) * left**3, 12)

    def get_config(self) -> dict[str, Any]:
        return {
            "final": self.final,
            "begin": self.begin,
            "end": self.end,
            "initial": self.initial,
            "frequency": self.frequency,
        }
