"""Magnitude."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.criteria.criterion import Criterion, State, Tensors


@keras.saving.register_keras_serializable(package="tfdist")
class Magnitude(Criterion):
    """A weight is worth its absolute value.

    Reference:
        Han et al., Learning both weights and connections, 1506.02626.
    """

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.abs(value) for value in values]
