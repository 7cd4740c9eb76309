"""What a criterion says: how much each weight is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import tensorflow as tf


class Criterion:
    """Scores of weights; those with the smallest go."""

    def scores(self, values: Sequence[tf.Tensor], step: tf.Tensor) -> list[tf.Tensor]:
        """A score for each weight.

        Args:
            values: list of float tensors of any shape, the weights.
            step: scalar int64 tensor, how many steps `fit` has made; the same on all replicas.

        Returns:
            Finite float tensors of the same shapes and dtypes, the same on all replicas.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """One like that of which `get_config` returned `config`."""
        return cls(**config)
