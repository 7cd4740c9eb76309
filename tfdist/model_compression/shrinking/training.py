"""Compiling a smaller model as the larger one, with the state of its optimizer."""

from __future__ import annotations

import copy
import warnings

import keras
import numpy as np

from tfdist.compat.layers import compile_arguments
from tfdist.compat.optimizer_slots import slots_of
from tfdist.model_compression.shrinking.rebuild import Kept, Origin


def compile_like(model: keras.Model, small: keras.Model, kept: Kept, origin: Origin) -> None:
    """Compiles `small` with what `model` was compiled with, if it was.

    The optimizer is a new one with the state of the old one, of which what belongs to the
    variables is cut as they are: moments, averages (`use_ema`), accumulated gradients.

    Args:
        model: the larger model.
        small: the smaller one.
        kept: which places of the variables stay, see `places_kept`.
        origin: where its variables come from, see `rebuilt`.
    """
    if not model.compiled:
        return
    arguments = compile_arguments(model)
    if arguments is None:
        warnings.warn(
            f"{type(model).__name__} has a `compile` of its own: the smaller model is not "
            "compiled. Call its `compile` before you train it.",
            stacklevel=3,
        )
        return
    optimizer = arguments["optimizer"] = _like(model.optimizer)
    for name in ("metrics", "weighted_metrics"):
        arguments[name] = keras.tree.map_structure(_like, arguments[name])
    small.compile(**arguments)
    if model.optimizer is not None and model.optimizer.built:
        optimizer.build(small.trainable_variables)
        _carry_over(model.optimizer, optimizer, kept, origin)


def _like(one):
    """A new metric or optimizer like another one; what is neither stays as it is."""
    if isinstance(one, (keras.metrics.Metric, keras.optimizers.Optimizer)):
        return type(one).from_config(copy.deepcopy(one.get_config()))
    return one


def _carry_over(larger, optimizer, kept, origin):
    of_old, of_new = slots_of(larger), slots_of(optimizer)
    waiting: dict[int | None, list] = {}  # slots of a variable, and others, in their order
    for old in larger.variables:
        variable = of_old.get(id(old))
        waiting.setdefault(variable if variable is None else id(variable), []).append(old)
    for new in optimizer.variables:
        variable = of_new.get(id(new))
        variable = variable if variable is None else origin[id(variable)]
        old = waiting[variable if variable is None else id(variable)].pop(0)
        value = old.numpy()
        if variable is not None:
            value = _cut(variable, value, tuple(new.shape), kept)
        new.assign(value)


def _cut(variable, value, shape, kept):
    """What stays of a slot; one of fewer axes (Adafactor's) has those of the variable but one."""
    axes = list(range(len(variable.shape)))
    if value.ndim == len(axes) - 1:
        for absent in (len(axes) - 1, len(axes) - 2):
            left = [axis for axis in axes if axis != absent]
            if [variable.shape[axis] for axis in left] == list(value.shape):
                axes = left
                break
    if value.ndim != len(axes):
        return value
    for place, axis in enumerate(axes):
        places = kept.get((id(variable), axis))
        if places is not None and value.shape[place] == len(places):
            value = np.compress(places, value, place)
    return value.reshape(shape)
