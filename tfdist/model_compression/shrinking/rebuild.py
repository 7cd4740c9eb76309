"""A new, smaller model like another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from tfdist.compat.functional_calls import calls_of, functional_of
from tfdist.compat.layers import (
    all_layers,
    input_structure,
    new_input,
    not_compiled,
    own_variables,
)
from tfdist.model_compression.channels.branches import Branch
from tfdist.model_compression.channels.channels import Channels
from tfdist.model_compression.shrinking.layer_configs import owner_of, smaller

# The places that stay, bool, by a variable's id and an axis.
Kept = dict[tuple[int, int], np.ndarray]
# The variable of the larger model that one of the smaller one comes from, by the latter's id.
Origin = dict[int, keras.Variable]


def rebuilt(
    model: keras.Model, channels: Channels, gone: set[int], branches: Sequence[Branch] = ()
) -> tuple[keras.Model, Origin]:
    """A model like `model` without the channels `gone`; its weights are new ones.

    Args:
        model: a functional or sequential Keras model.
        channels: what is known of its channels.
        gone: set of int, channels.
        branches: list of `Branch`, which go, too; what only they read goes with them.

    Returns:
        The model, and where each of its variables comes from.

    Raises:
        ValueError: a layer cannot be made smaller; it is named.
    """
    kept = places_kept(channels, gone)

    def left(variable, axis):
        places = kept.get((id(variable), axis))
        return variable.shape[axis] if places is None else int(places.sum())

    copies: dict[int, Any] = {}
    sums = {id(branch.sum.operation): branch for branch in branches}
    unneeded = _unneeded(model, sums)

    def copy(layer):
        if id(layer) in unneeded:
            return layer
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
        if not branches or isinstance(one, keras.Sequential):
            return keras.models.clone_model(one, input_tensors=inputs, clone_function=copy)
        return keras.models.clone_model(
            one, input_tensors=inputs, clone_function=copy, call_function=call
        )

    def call(operation, *args, **kwargs):
        if id(operation) in unneeded:  # nothing that stays reads what it returns
            return unneeded[id(operation)]
        branch = by_copy(operation)
        if branch is not None:
            return keras.tree.flatten((args, kwargs))[branch.place]
        return operation(*args, **kwargs)

    def by_copy(operation):
        return next((b for key, b in sums.items() if copies.get(key) is operation), None)

    with not_compiled(model):
        small = clone(model)
    pairs = _pairs(model, small, copies)
    for old, new in pairs:
        if old.trainable != new.trainable:
            new.trainable = old.trainable
    return small, _origin(model, small, pairs, left)


def _unneeded(model, sums):
    """What operations return that no output of their model needs, by their ids."""
    found: dict[int, list] = {}
    if not sums:
        return found
    for graph in filter(None, map(functional_of, all_layers(model))):
        needed = {id(tensor) for tensor in graph.outputs}
        calls = calls_of(graph)
        of_needed: set[int] = set()
        while True:
            before = len(needed)
            for one in reversed(calls):
                key = id(one.operation)
                if key in of_needed or needed & {id(tensor) for tensor in one.outputs}:
                    of_needed.add(key)
                    branch = sums.get(key)
                    reads = one.inputs if branch is None else [one.inputs[branch.place]]
                    needed |= {id(tensor) for tensor in reads}
            if len(needed) == before:
                break
        found |= {id(c.operation): c.outputs for c in calls if id(c.operation) not in of_needed}
    return found


def _pairs(model, small, copies):
    """Each layer that stays, and its copy."""
    found = {id(model): small}
    for old in all_layers(model):
        new = copies.get(id(old))
        if new is None:
            continue
        if functional_of(old) is not None:
            found[id(old)] = new
        else:
            for one, other in zip(all_layers(old), all_layers(new)):
                found.setdefault(id(one), other)
    return [(old, found[id(old)]) for old in all_layers(model) if id(old) in found]


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


def _origin(model, small, pairs, left):
    """Where the variables of `small` come from, if all of them have the shapes they should."""
    origin: Origin = {}
    for old, new in pairs:
        whole = functional_of(old) is None
        for one, other in zip(*(x.variables if whole else own_variables(x) for x in (old, new))):
            origin.setdefault(id(other), one)
    for variable in small.variables:
        old = origin.get(id(variable))
        if old is None:
            raise ValueError(f"{variable.path} is no variable of {model.name!r}.")
        shape = tuple(left(old, axis) for axis in range(len(old.shape)))
        if shape != tuple(variable.shape):
            layer = owner_of(model, old)
            raise ValueError(
                f"{old.path} of shape {tuple(old.shape)} was to become {shape}, and "
                f"became {tuple(variable.shape)}: the configuration of {layer.name!r}, a "
                f"{type(layer).__name__}, does not say its size in a way that is known. Leave it "
                "out by `filters`."
            )
    lengths = [(old, len(old.variables), len(new.variables)) for old, new in pairs[1:]]
    for old, count, copied in lengths:
        if functional_of(old) is None and count != copied:
            raise ValueError(f"{old.name!r} has {count} variables, its copy {copied}.")
    return origin
