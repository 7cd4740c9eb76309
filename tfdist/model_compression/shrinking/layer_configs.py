"""What a smaller layer is called with: its configuration, with other numbers of units."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers

from tfdist.compat.layers import all_layers, own_variables

# Places that stay along an axis of a Keras variable.
Left = Callable[[keras.Variable, int], int]


def smaller(layer: keras.Layer, left: Left) -> keras.Layer:
    """A new layer like `layer`, whose variables will have what is `left` of each.

    Args:
        layer: a built Keras layer, no model.
        left: function of a variable and an axis.

    Returns:
        A layer that is not built yet.
    """
    config = layer.get_config()
    rule = next((rule for kinds, rule in _RULES if isinstance(layer, kinds)), None)
    if rule is not None:
        config.update(rule(layer, left))
    elif isinstance(layer, layers.Wrapper) and _changes(layer, left):
        config["layer"] = keras.saving.serialize_keras_object(smaller(layer.layer, left))
    elif _changes(layer, left):
        config = _found(layer, left, config)
    return type(layer).from_config(config)


def _changes(layer, left):
    return any(
        left(variable, axis) != size
        for variable in layer.variables
        for axis, size in enumerate(variable.shape)
    )


def _dense(layer, left):
    return {"units": left(layer.kernel, 1)}


def _convolution(layer, left):
    filters = left(layer.kernel, len(layer.kernel.shape) - 1)
    if layer.groups > 1 and layer.kernel.shape[-2] == 1:
        return {"filters": filters, "groups": filters * layer.groups // layer.filters}
    return {"filters": filters}


def _transposed(layer, left):
    return {"filters": left(layer.kernel, len(layer.kernel.shape) - 2)}


def _separable(layer, left):
    return {"filters": left(layer.pointwise_kernel, len(layer.pointwise_kernel.shape) - 1)}


def _embedding(layer, left):
    return {"output_dim": left(layer.embeddings, 1)}


def _einsum(layer, left):
    kernel, output = layer.equation.replace(" ", "").split(",")[1].split("->")
    shape = list(keras.tree.flatten(layer.get_config()["output_shape"]))
    letters = output.lstrip(".")[-len(shape) :]
    for place, letter in enumerate(letters):
        if letter in kernel and shape[place] is not None:
            shape[place] = left(layer.kernel, kernel.index(letter))
    return {"output_shape": tuple(shape)}


def _attention(layer, left):
    inner = {one.name: one for one in all_layers(layer)}
    query, value = inner["query"].kernel, inner["value"].kernel
    out = inner["attention_output"].kernel
    changed = {"num_heads": left(query, 1), "value_dim": left(value, 2)}
    if left(out, 2) != out.shape[2]:
        changed["output_shape"] = left(out, 2)
    return changed


def _grouped_attention(layer, left):
    inner = {one.name: one for one in all_layers(layer)}
    return {
        "num_query_heads": left(inner["query"].kernel, 1),
        "num_key_value_heads": left(inner["value"].kernel, 1),
    }


_RULES: tuple[tuple[Any, Callable[[Any, Left], dict[str, Any]]], ...] = (
    (layers.Dense, _dense),
    (layers.EinsumDense, _einsum),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _convolution),
    (
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        _transposed,
    ),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    (layers.Embedding, _embedding),
    (layers.MultiHeadAttention, _attention),
    (layers.GroupQueryAttention, _grouped_attention),
)


# -- layers that hold others -------------------------------------------------------------------


def _found(layer, left, config):
    """The configuration of a layer that holds others, as of a library of transformers.

    Which of its numbers is the size that changes is not known, so those that are equal to it are
    tried: a layer of them, built for the same inputs, must have the variables that are wanted.
    """
    wanted = [tuple(left(v, axis) for axis in range(len(v.shape))) for v in layer.variables]
    sizes = {
        size: left(variable, axis)
        for variable in layer.variables
        for axis, size in enumerate(variable.shape)
        if left(variable, axis) != size
    }
    places = [path for path, value in _numbers(config) if value in sizes]
    for count in range(1, min(len(places), 4) + 1):
        for chosen in itertools.combinations(places, count):
            tried = config
            for path in chosen:
                tried = _replaced(tried, path, sizes)
            if _variables_of(layer, tried) == wanted:
                return tried
    if len(places) == 1 and _variables_of(layer, config) is None:
        # It cannot be built alone (a decoder takes two sequences), so there is no trial.
        return _replaced(config, places[0], sizes)
    return config  # its variables may follow its inputs; `rebuild` looks at what came of it


def _variables_of(layer, config):
    """The shapes that a layer of this configuration has for the same inputs; None for none."""
    try:
        trial = type(layer).from_config(config)
        trial.build_from_config(layer.get_build_config())
    except Exception:  # whatever a layer raises that cannot be so
        return None
    return [tuple(variable.shape) for variable in trial.variables]


def _numbers(config: Any, path: tuple = ()) -> Iterator[tuple[tuple, int]]:
    items = config.items() if isinstance(config, dict) else enumerate(config)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _numbers(value, (*path, key))
        elif isinstance(value, int) and not isinstance(value, bool):
            yield (*path, key), value


def _replaced(config, path, sizes):
    first, *rest = path
    inner = _replaced(config[first], rest, sizes) if rest else sizes[config[first]]
    if isinstance(config, dict):
        return {**config, first: inner}
    return type(config)(inner if i == first else one for i, one in enumerate(config))


def owner_of(model: keras.Model, variable: keras.Variable) -> keras.Layer:
    """The layer that has made a variable of `model`."""
    for layer in all_layers(model):
        if any(variable is own for own in own_variables(layer)):
            return layer
    raise ValueError(f"{variable.path} is no variable of {model.name!r}.")
