"""Taylor: what the loss would change by."""

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
class Taylor(Criterion):
    """Weights that go together are worth the square of what the loss changes by without them.

    To first order, from the gradients g of the global batch, added up over the steps since the
    last change of the masks:

        score = sum_steps (sum_group g w)^2

    The sum over a group stands inside of the square: contributions may cancel.

    Reference:
        Molchanov et al., Importance estimation for neural network pruning, 1906.10771,
        equations 8 and 9.
    """

    needs_gradients = True
    of_groups = True

    def init(self, values: Tensors, together: Together) -> list[list[tf.Tensor]]:
        return zeros_like(together(values))

    def observe(self, state: State, seen: Observation) -> None:
        for (total,), product in zip(state, seen.together(seen.products())):
            total.assign_add(tf.square(product))

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(total) for (total,) in state]

    def changed(self, state: State, values: Tensors, before: Tensors, after: Tensors) -> Tensors:
        reset(state)
        return values
