"""Chance: the floor below which no criterion should be."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.model_compression.pruning.criteria.criterion import Criterion, State, Tensors


@keras.saving.register_keras_serializable(package="tfdist")
class Random(Criterion):
    """A weight is worth a random number, the same on all replicas and workers.

    Args:
        seed: int.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = integer("seed", seed, least=0)

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [
            tf.random.stateless_uniform(
                tf.shape(value), tf.stack([self.seed + 2**20 * number, step]), dtype=value.dtype
            )
            for number, value in enumerate(values)
        ]

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed}
