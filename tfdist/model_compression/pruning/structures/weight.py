"""Single weights."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Weight(Structure):
    """Each weight for itself (unstructured sparsity).

    It makes files smaller that store zeros well, not steps faster.
    """

    def groups(self, scores: tf.Tensor) -> tf.Tensor:
        return tf.reshape(scores, [-1])

    def spread(self, kept: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
        return tf.reshape(kept, shape)
