"""Blocks of weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
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
        return tf.reshape(tf.reduce_mean(tf.reshape(scores, form), [1, 3]), [-1])

    def spread(self, kept: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        rows, columns = shape
        blocks = tf.reshape(kept, [rows // self.inputs, columns // self.outputs])
        return tf.repeat(tf.repeat(blocks, self.inputs, 0), self.outputs, 1)

    def get_config(self) -> dict[str, Any]:
        return {"inputs": self.inputs, "outputs": self.outputs}
