"""N of M weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class NM(Structure):
    """Of each M consecutive inputs of an output N stay: 2:4 is what NVIDIA's tensor cores know.

    Args:
        n: int, how many stay.
        m: int, of how many.

    Reference:
        Mishra et al., Accelerating sparse deep neural networks, 2104.08378.
    """

    def __init__(self, n: int = 2, m: int = 4) -> None:
        self.m = integer("m", m, least=2)
        self.n = integer("n", n, least=1)
        if self.n >= self.m:
            raise ValueError(f"n={n!r} of m={m!r}: expected n smaller than m.")
        self.fixed = 1 - self.n / self.m

    def refusal(self, shape: Sequence[int]) -> str | None:
        if shape[0] % self.m:
            return f"{shape[0]} inputs are no multiple of {self.m}, as {self.n}:{self.m} needs"
        return None

    def groups(self, scores: tf.Tensor) -> tf.Tensor:
        rows, columns = scores.shape
        together = tf.reshape(scores, [rows // self.m, self.m, columns])
        # The place of each weight among its M, the largest first; ties go by order.
        order = tf.argsort(together, axis=1, direction="DESCENDING", stable=True)
        places = tf.argsort(order, axis=1, stable=True)
        return tf.reshape(tf.cast(self.m - places, scores.dtype), [-1])

    def spread(self, kept: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        return tf.reshape(kept, shape)

    def get_config(self) -> dict[str, Any]:
        return {"n": self.n, "m": self.m}
