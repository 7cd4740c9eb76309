"""LAMP: all tensors compete, by what each weight is worth beside those that stay with it."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.allocations.allocation import Allocation


@keras.saving.register_keras_serializable(package="tfdist")
class LAMP(Allocation):
    """Layer-adaptive scores, compared over the whole model.

    With a tensor's scores in ascending order, s_1 <= s_2 <= ...,

        lamp_i = s_i^2 / sum_{j >= i} s_j^2

    so the largest of each tensor has 1, and none loses all of its weights.

    Reference:
        Lee et al., Layer-adaptive sparsity for the magnitude-based pruning, 2010.07611.
    """

    joint = True
    squares = True

    def comparable(self, scores: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        return [_lamp(score) for score in scores]


def _lamp(scores):
    squares = tf.square(tf.cast(scores, tf.float64))
    order = tf.argsort(squares, stable=True)
    ascending = tf.gather(squares, order)
    rest = tf.cumsum(ascending, reverse=True)
    lamp = tf.math.divide_no_nan(ascending, rest)
    return tf.scatter_nd(order[:, None], lamp, tf.shape(lamp))
