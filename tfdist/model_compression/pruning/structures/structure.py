"""What a structure says: which weights go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf


class Structure:
    """Groups of weights of a tensor that stay or go together.

    Tensors come as matrices `(inputs, outputs)`: what an output sums over, and outputs.

    Attributes:
        fixed: float, the only sparsity that it has, or None.
        kind: str, "filter" or "head" where whole channels of the model go, with all that
            belongs to them, "layer" where residual branches do; None for weights of a kernel.
        several: whether a group has several weights.
    """

    fixed: float | None = None
    kind: str | None = None
    several = False

    def refusal(self, shape: Sequence[int]) -> str | None:
        """Why a matrix of this shape cannot have it; None if it can."""
        return None

    def groups(self, scores: tf.Tensor) -> tf.Tensor:
        """The score of each group, `(groups,)`, of the scores of weights `(inputs, outputs)`.

        A weight that has gone for good has a score of minus infinity, and so has a group of
        nothing else.
        """
        raise NotImplementedError

    def spread(self, kept: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        """Of which groups stay, bool `(groups,)`, which weights do, bool of `shape`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """One like that of which `get_config` returned `config`."""
        return cls(**config)
