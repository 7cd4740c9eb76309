"""What a schedule says: how much is pruned behind which step."""

from __future__ import annotations

from typing import Any, Self


class Schedule:
    """When sparsity changes, and to what.

    Attributes:
        final: float, the sparsity in the end.
    """

    final: float

    def updates(self) -> list[tuple[int, float]]:
        """Pairs of a number of steps of `fit` and the sparsity from there on, in order."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """One like that of which `get_config` returned `config`."""
        return cls(**config)


def fraction(name, value):
    """`value` as a float in [0, 1).

    Raises:
        ValueError: it is none; pruning everything leaves no model.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(
            f"{name}={value!r}: expected a part of the weights, at least 0 and below 1."
        )
    return float(value)
