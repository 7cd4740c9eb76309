"""What an allocation says: how much of the whole each weight tensor gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf


class Allocation:
    """How a sparsity of the whole is divided.

    Attributes:
        joint: whether tensors compete: the smallest scores of all go, wherever they are, as
            `comparable` makes them. Else each gives what `sparsities` says.
        of_channels: bool, whether it can divide channels, too: all of them, or each kernel by
            itself, and not by the kernels' shapes.
        squares: whether `comparable` squares scores, which must be at least 0 then.
    """

    joint = False
    of_channels = False
    squares = False

    def sparsities(self, shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
        """The sparsity of each tensor, in [0, 1).

        Args:
            shapes: list of shapes: inputs and, last, outputs; of a convolution with its window
                in front.
            sparsity: float in [0, 1), of all of them together.
        """
        raise NotImplementedError

    def comparable(self, scores: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        """Scores that may be compared between tensors.

        Args:
            scores: list of tensors `(groups,)`, at least 0; larger ones stay.
        """
        return scores

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """One like that of which `get_config` returned `config`."""
        return cls(**config)
