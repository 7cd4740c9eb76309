"""Norms: what a group of weights is worth by their size."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.criteria.criterion import Criterion, State, Tensors


@keras.saving.register_keras_serializable(package="tfdist")
class L1(Criterion):
    """A group of weights is worth the mean of their absolute values.

    Reference:
        Li et al., Pruning filters for efficient ConvNets, 1608.08710.
    """

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.abs(value) for value in values]


@keras.saving.register_keras_serializable(package="tfdist")
class L2(Criterion):
    """A group of weights is worth the mean of their squares.

    With a filter go weights of several kernels, of those also that read it; all of them count.

    Reference:
        Fang et al., DepGraph: towards any structural pruning, 2301.12900.
    """

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.square(value) for value in values]
