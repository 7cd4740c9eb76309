"""SNIP: pruning in front of training."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    Observation,
    State,
    Tensors,
    Together,
    reset,
    zeros_like,
)


@keras.saving.register_keras_serializable(package="tfdist")
class SNIP(Criterion):
    """A weight is worth how strongly the loss of one batch depends on whether it is there.

        score = |g w| / sum |g w|

    with g the gradient of the global batch and the sum over all kernels. The paper prunes once,
    in front of training: `schedule=Constant(final=0.9)`, `allocation="global"`. The first step
    of `fit` only looks: the optimizer gets zeros as gradients, masks are set, and training
    begins with the second step from the values that the weights began with. (What an optimizer
    does without a gradient, as weight decay, it does in that step, too.)

    Reference:
        Lee et al., SNIP: single-shot network pruning based on connection sensitivity, 1810.02340.
    """

    needs_gradients = True
    pauses_training = True

    def init(self, values: Tensors, together: Together) -> list[list[tf.Tensor]]:
        return zeros_like(values)

    def observe(self, state: State, seen: Observation) -> None:
        def look():
            for (size,), product in zip(state, seen.products()):
                size.assign_add(tf.abs(product))
            return True

        tf.cond(seen.changing, look, lambda: False)

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        sizes = [tf.convert_to_tensor(size) for (size,) in state]
        total = tf.add_n([tf.reduce_sum(size) for size in sizes])
        return [tf.math.divide_no_nan(size, total) for size in sizes]

    def changed(self, state: State, values: Tensors, before: Tensors, after: Tensors) -> Tensors:
        reset(state)
        return values
