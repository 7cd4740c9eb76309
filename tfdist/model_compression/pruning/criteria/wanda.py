"""Wanda: weights by what comes in to them, without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat.layers import calls_noted
from tfdist.model_compression.pruning.criteria.criterion import (
    Criterion,
    State,
    Tensors,
    Together,
)

if TYPE_CHECKING:
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure
    from tfdist.model_compression.pruning.weights import PrunableWeight

_LINEAR = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
)


@keras.saving.register_keras_serializable(package="tfdist")
class Wanda(Criterion):
    """A weight is worth its size times that of what comes in to it, beside those of its output.

        score_ij = |w_ij| ||x_i||

    with x_i the i-th input of the layer on all calibration examples (for a convolution at all
    places where its window looks). Weights compete with those of the same output only, so each
    output keeps as many as the others (to one). The norms are of the model as it is when `prune`
    is called; it needs no training: `Constant(final=0.5)`, whose masks are set in front of the
    first step.

    Kernels of recurrent and separable layers, and of layers that the model's prediction does not
    call, are skipped.

    Example:

    >>> import keras, numpy, tfdist
    >>> compression = tfdist.model_compression
    >>> x = numpy.random.default_rng(0).normal(size=(64, 8))
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    >>> model.compile("sgd", "mse")
    >>> criterion = compression.Wanda(x)
    >>> pruning = compression.prune(model, criterion, schedule=compression.Constant(final=0.5))
    >>> history = model.fit(x, numpy.ones((64, 10)), verbose=0, callbacks=[pruning])
    >>> (model.layers[0].kernel.numpy() == 0).sum(axis=0).tolist()
    [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]

    Args:
        data: calibration examples: inputs of the model (arrays, or a structure of them), or a
            `tf.data.Dataset` of batches of inputs, or of `(inputs, ...)`. The same on all
            workers. Not a part of the configuration.

    Reference:
        Sun et al., A simple and effective pruning approach for large language models, 2306.11695.
    """

    comparable = False

    def __init__(self, data: Any = None) -> None:
        self.data = data

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        if structure.kind is not None:
            return 'it compares the weights of one output: expected structure="weight"'
        return super().refusal(structure, allocation, schedule)

    def bind(
        self, model: keras.Model, weights: Sequence[PrunableWeight]
    ) -> tuple[Criterion, Sequence[str | None]]:
        if self.data is None:
            raise ValueError(
                "Wanda without data: expected calibration examples, as `Wanda(x)`; a "
                "configuration does not hold them."
            )
        squares: dict[int, np.ndarray] = {}
        kernels = {id(w.layer): w for w in weights if _is_known(w.layer)}
        for batch in _batches(self.data):
            with calls_noted(model) as (_, calls):
                model(batch, training=False)
            for layer, args, _ in calls:
                weight = kernels.get(id(layer))
                if weight is not None and args:
                    key = id(weight.variable)
                    squares[key] = squares.get(key, 0) + _squares(layer, weight, args[0])
        reasons: list[str | None] = []
        found, seen = [], []
        for weight in weights:
            if id(weight.variable) in squares:
                reasons.append(None)
                seen.append(weight)
                found.append(np.sqrt(squares[id(weight.variable)]))
            elif not _is_known(weight.layer):
                reasons.append(
                    f"Wanda knows no inputs of a kernel of {type(weight.layer).__name__}"
                )
            else:
                reasons.append("the model's prediction does not call it, so Wanda sees no inputs")
        return _Bound(seen, found), reasons

    def get_config(self) -> dict[str, Any]:
        return {}


class _Bound(Wanda):
    """Wanda with the norms of a model's kernels."""

    def __init__(self, weights, norms):
        super().__init__()
        self._weights, self._norms = weights, norms

    def init(self, values: Tensors, together: Together) -> list[list[tf.Tensor]]:
        return [[tf.cast(norm, value.dtype)] for norm, value in zip(self._norms, values)]

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        found = []
        for weight, value, (norm,), mask in zip(self._weights, values, state, masks):
            score = tf.where(mask, tf.abs(value) * norm, tf.constant(-np.inf, value.dtype))
            # The place of each weight among those of its output, the smallest first.
            order = tf.argsort(weight.as_matrix(score), axis=0, stable=True)
            places = tf.argsort(order, axis=0, stable=True)
            found.append(weight.from_matrix(tf.cast(places, value.dtype)))
        return found


def _is_known(layer):
    return any(type(layer).call is known.call for known in _LINEAR)


def _batches(data):
    if not isinstance(data, tf.data.Dataset):
        return [keras.tree.map_structure(tf.convert_to_tensor, data)]
    return (one[0] if isinstance(one, tuple) else one for one in data)


def _squares(layer, weight, inputs):
    """For each weight of a kernel, the sum of the squares of what it is multiplied with.

    That is the gradient of the sum of the layer's outputs for squared inputs, without its
    activation; whatever its strides, padding, dilation or equation.
    """
    largest = tf.reduce_max(tf.abs(inputs))
    scale = tf.where(largest > 0, largest, tf.ones_like(largest))  # half precision overflows
    trained = [tf.convert_to_tensor(v.value) for v in layer.trainable_variables]
    others = [tf.convert_to_tensor(v.value) for v in layer.non_trainable_variables]
    (place,) = [i for i, v in enumerate(layer.trainable_variables) if v is weight.variable]
    activation, layer.activation = layer.activation, None
    try:
        with tf.GradientTape() as tape:
            tape.watch(trained[place])
            outputs, _ = layer.stateless_call(trained, others, tf.square(inputs / scale))
            total = tf.reduce_sum(outputs)
        gradient = tape.gradient(total, trained[place])
    finally:
        layer.activation = activation
    return gradient.numpy().astype("float64") * float(scale) ** 2
