"""A new, smaller model like another one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from tfdist.compat.layers import all_layers, input_structure, new_input, not_compiled
from tfdist.model_compression.channels.channels import Channels
from tfdist.model_compression.shrinking.layer_configs import owner_of, smaller

# The places that stay, bool, by a variable's id and an axis.
Kept = dict[tuple[int, int], np.ndarray]


def rebuilt(model: keras.Model, channels: Channels, gone: set[int]) -> keras.Model:
    """A model like `model` without the channels `gone`; its weights are new ones.

    Args:
        model: a functional or sequential Keras model.
        channels: what is known of its channels.
        gone: set of int, channels.

    Raises:
        ValueError: a layer cannot be made smaller; it is named.
    """
    kept = places_kept(channels, gone)

    def left(variable, axis):
        places = kept.get((id(variable), axis))
        return variable.shape[axis] if places is None else int(places.sum())

    copies: dict[int, Any] = {}

    def copy(layer):
        if id(layer) not in copies:
            copies[id(layer)] = copy_of(layer)
        return copies[id(layer)]

    def copy_of(layer):
        if not isinstance(layer, keras.Layer):  # an operation of keras.ops
            return layer
        if isinstance(layer, layers.Reshape):
            return _reshape(layer, channels, gone)
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            return clone(layer)
        return smaller(layer, left)

    def clone(one):
        inputs = _inputs(one, channels, gone)
        return keras.models.clone_model(one, input_tensors=inputs, clone_function=copy)

    with not_compiled(model):
        small = clone(model)
    for old, new in zip(all_layers(model), all_layers(small)):
        if old.trainable != new.trainable:
            new.trainable = old.trainable
    _check(model, small, left)
    return small


def places_kept(channels: Channels, gone: set[int]) -> Kept:
    """Which places of each variable stay, where some go."""
    absent = np.array(sorted(gone), np.int64)
    kept = {key: ~np.isin(own, absent) for key, own in channels.of.items()}
    return {key: places for key, places in kept.items() if not places.all()}


def _inputs(model, channels, gone):
    """Inputs for a copy of a model, of which some channels are gone where it is a nested one."""
    structure = input_structure(model)
    tensors = keras.tree.flatten(structure)
    known = channels.inputs.get(id(model)) or [[]] * len(tensors)
    made = [new_input(t, _without(list(t.shape), axes, gone)) for t, axes in zip(tensors, known)]
    return keras.tree.pack_sequence_as(structure, made)


def _without(shape, axes, gone):
    """A shape, where what is known of the channels of each axis says which are gone."""
    for place, own in enumerate(axes):
        if own is not None and shape[place] not in (None, -1):
            shape[place] = sum(int(channel) not in gone for channel in own)
    return shape


def _reshape(layer, channels, gone):
    config = layer.get_config()
    (axes, *_) = channels.outputs.get(id(layer)) or [[None]]
    shape = _without([None, *config["target_shape"]], axes, gone)
    return type(layer).from_config({**config, "target_shape": tuple(shape[1:])})


def _check(model, small, left):
    wanted = [tuple(left(v, axis) for axis in range(len(v.shape))) for v in model.variables]
    found = [tuple(variable.shape) for variable in small.variables]
    if wanted == found:
        return
    for variable, shape, new in zip(model.variables, wanted, found):
        if shape != new:
            layer = owner_of(model, variable)
            raise ValueError(
                f"{variable.path} of shape {tuple(variable.shape)} was to become {shape}, and "
                f"became {new}: the configuration of {layer.name!r}, a {type(layer).__name__}, "
                "does not say its size in a way that is known. Leave it out by `filters`."
            )
    raise ValueError(f"{model.name!r} has {len(wanted)} variables, its copy {len(found)}.")
