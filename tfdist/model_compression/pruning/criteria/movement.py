"""Movement: weights that training drives to zero go."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    Observation,
    State,
    Tensors,
    Together,
)


@keras.saving.register_keras_serializable(package="tfdist")
class Movement(Criterion):
    """A weight is worth how far training has moved it away from zero.

        S = -sum_steps g w

    with g the gradient of the global batch with respect to the masked weights, and w the weight,
    that of a masked one the value with which it went. A masked weight whose score has grown comes
    back with that value. For fine-tuning a pretrained model; give a schedule that takes its
    time, as `Cubic`.

    It keeps the scores and the values that have gone: two floats a weight.

    Reference:
        Sanh et al., Movement pruning: adaptive sparsity by fine-tuning, 2005.07683, section 4.
    """

    needs_gradients = True
    reversible = True
    at_least_zero = False

    def init(self, values: Tensors, together: Together) -> list[list[tf.Tensor]]:
        return [[tf.zeros_like(value), tf.identity(value)] for value in values]

    def observe(self, state: State, seen: Observation) -> None:
        for (score, _), slope in zip(state, self._slopes(state, seen)):
            score.assign_sub(slope)

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(score) for score, _ in state]

    def changed(self, state: State, values: Tensors, before: Tensors, after: Tensors) -> Tensors:
        whole = []
        for (_, kept), value, mask in zip(state, values, before):
            whole.append(tf.where(mask, value, kept))
            kept.assign(whole[-1])
        return whole

    @staticmethod
    def _slopes(state, seen):
        wholes = [
            tf.where(mask, value, kept)
            for mask, value, (_, kept) in zip(seen.masks, seen.values, state)
        ]
        return [gradient * whole for gradient, whole in zip(seen.gradients, wholes)]
