"""Blocks of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Block(Structure):
    """Rectangles of `inputs` x `outputs` weights stay or go; worth the mean of their weights.

    Args:
        inputs: int, how many inputs of an output a block has.
        outputs: int, how many outputs.
    """

    several = True

    def __init__(self, inputs: int = 4, outputs: int = 1) -> None:
        self.inputs = integer("inputs", inputs, least=1)
        self.outputs = integer("outputs", outputs, least=1)

    def refusal(self, shape: Sequence[int]) -> str | None:
        if shape[0] % self.inputs or shape[1] % self.outputs:
            return (
                f"{shape[0]} inputs and {shape[1]} outputs are no whole number of blocks of "
                f"{self.inputs} x {self.outputs}"
            )
        return None

    def groups(self, scores: tf.Tensor) -> tf.Tensor:
        rows, columns = scores.shape
        form = [rows // self.inputs, self.inputs, columns // self.outputs, self.outputs]
        together = tf.reshape(scores, form)
        gone = together == -np.inf
        mean = tf.reduce_mean(tf.where(gone, tf.zeros([], scores.dtype), together), [1, 3])
        none_left = tf.reduce_all(gone, [1, 3])
        return tf.reshape(tf.where(none_left, tf.constant(-np.inf, mean.dtype), mean), [-1])

    def spread(self, kept: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        rows, columns = shape
        blocks = tf.reshape(kept, [rows // self.inputs, columns // self.outputs])
        return tf.repeat(tf.repeat(blocks, self.inputs, 0), self.outputs, 1)

    def get_config(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "outputs": self.outputs}
