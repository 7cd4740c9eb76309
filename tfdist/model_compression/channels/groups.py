"""Groups of channels of which each can go, with all that belongs to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from tfdist.compat.layers import all_layers, own_weights
from tfdist.model_compression.channels.channels import Channels
from tfdist.model_compression.pruning.weights import (
    Filters,
    Skipped,
    is_depthwise,
    kernel_axes,
    kernel_names,
    matches,
)

_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)


@dataclasses.dataclass(frozen=True)
class Producer:
    """An axis of a kernel along which channels are made.

    Attributes:
        layer: the Keras layer.
        variable: the kernel, a Keras variable.
        axis: int.
    """

    layer: keras.Layer
    variable: keras.Variable
    axis: int


@dataclasses.dataclass(frozen=True)
class Member:
    """What of a variable belongs to the channels of a group.

    Attributes:
        variable: the Keras variable.
        axis: int.
        channels: int64 `(length of the axis,)`: which channel of the group a place belongs to;
            -1 for those of other groups.
        layer: the Keras layer whose variable it is.
    """

    variable: keras.Variable
    axis: int
    channels: np.ndarray
    layer: keras.Layer


@dataclasses.dataclass(frozen=True)
class Group:
    """Channels of which each can go, with all that belongs to it, and the others stay right.

    Attributes:
        producers: list of `Producer`: the kernels that make them.
        size: int, how many channels can go; one of them stays at least.
        members: list of `Member`: weights, without the statistics of normalizations.
    """

    producers: list[Producer]
    size: int
    members: list[Member]

    @property
    def name(self) -> str:
        """The path of the kernel that makes them; the first of several."""
        return self.producers[0].variable.path


def groups_of(
    model: keras.Model, channels: Channels, kind: str, filters: Filters = None
) -> tuple[list[Group], list[Skipped]]:
    """The groups of a model, and why other kernels have none.

    Args:
        model: the Keras model.
        channels: what `channels_of` has found.
        kind: "filter" (filters of convolutions and neurons) or "head" (of attention).
        filters: see `tfdist.model_compression.prune`.
    """
    producers, skipped = _producers(model, channels, kind)
    refused, members = dict(channels.reasons), _every_member(model, channels)
    for one in producers:
        reason = _refusal(one.layer, filters)
        if reason is not None:
            for channel in channels.of[id(one.variable), one.axis]:
                refused.setdefault(int(channel), reason)
    found = []
    for together, every in _by_producers(producers, channels):
        free = np.array([channel for channel in every if channel not in refused], np.int64)
        if len(free):
            found.append(Group(together, len(free), _members(members, free)))
    taken = {id(one) for group in found for one in group.producers}
    for one in producers:
        if id(one) not in taken:
            first = int(channels.of[id(one.variable), one.axis][0])
            skipped.append(Skipped(one.variable.path, refused[first]))
    return found, skipped


def _producers(model, channels, kind):
    found, skipped, inner = [], [], set()
    for layer in all_layers(model):
        if isinstance(layer, _ATTENTION):
            inside = [one for one in all_layers(layer) if one is not layer]
            inner |= {id(one) for one in inside if not _is_output(layer, one)}
            if kind == "head":
                value = next(one for one in inside if one.name == "value")
                found.append(Producer(layer, value.kernel, 1))
    if kind == "filter":
        for layer in all_layers(model):
            if id(layer) in inner:
                continue
            for name in kernel_names(layer):
                variable = getattr(layer, name)
                if is_depthwise(layer, variable):  # it hands on the channels of what it reads
                    continue
                for axis in kernel_axes(layer, variable)[1]:
                    found.append(Producer(layer, variable, axis))
    kept = []
    for one in found:
        if variable_is_followed(one, channels):
            kept.append(one)
        else:
            skipped.append(Skipped(one.variable.path, "it has one channel, or none that is read"))
    return kept, skipped


def _is_output(attention, layer):
    """Whether it makes what attention returns, which are neurons; its heads go as a whole."""
    # GroupQueryAttention returns as many as it was called with, whatever it is asked for.
    return layer.name == "attention_output" and isinstance(attention, layers.MultiHeadAttention)


def variable_is_followed(producer: Producer, channels: Channels) -> bool:
    """Whether anything is known of the channels that a kernel makes."""
    return (id(producer.variable), producer.axis) in channels.of


def _refusal(layer, filters):
    if not matches(layer, filters):
        return f"filters leave {layer.name} out"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"{layer.name} is quantized ({layer.quantization_mode}); prune first, quantize then"
    if getattr(layer, "lora_enabled", False):
        return f"{layer.name} has LoRA weights beside its kernel; merge them first"
    if not layer.trainable:
        return f"{layer.name} is not trainable"
    return None


def _by_producers(
    producers: Sequence[Producer], channels: Channels
) -> list[tuple[list[Producer], list[int]]]:
    """Channels that the same kernels make, and those kernels, in the order of the model.

    So a kernel of which only some outputs are added to those of another one makes channels of
    several groups, and none of them is left without any.
    """
    made_by: dict[int, list[int]] = {}
    for number, one in enumerate(producers):
        for channel in dict.fromkeys(channels.of[id(one.variable), one.axis].tolist()):
            made_by.setdefault(channel, []).append(number)
    found: dict[tuple[int, ...], list[int]] = {}
    for channel, numbers in made_by.items():
        found.setdefault(tuple(numbers), []).append(channel)
    return [([producers[n] for n in numbers], own) for numbers, own in found.items()]


def _every_member(model, channels):
    """All weights of a model and their axes, with the channels of their places."""
    # Of a shared one the layer that comes first.
    found = {id(v): (v, one) for one in reversed(all_layers(model)) for v in own_weights(one)}
    owned = [found[id(v)] for one in all_layers(model) for v in own_weights(one)]
    variables = {id(variable): (variable, layer) for variable, layer in owned}
    return [
        (variable, axis, channels.of[key, axis], layer)
        for key, (variable, layer) in variables.items()
        for axis in range(len(variable.shape))
        if (key, axis) in channels.of
    ]


def _members(every, free):
    found = []
    order = np.argsort(free)
    for variable, axis, own, layer in every:
        places = np.minimum(np.searchsorted(free, own, sorter=order), len(free) - 1)
        numbers = np.where(free[order][places] == own, order[places], -1)
        if np.any(numbers >= 0):
            found.append(Member(variable, axis, numbers, layer))
    return found


def zero_channels(group: Group) -> np.ndarray:
    """bool `(group.size,)`: whether everything of a channel is zero."""
    zero = np.ones(group.size, bool)
    for member in group.members:
        value = np.moveaxis(member.variable.numpy(), member.axis, 0)
        used = np.any(value.reshape(len(value), -1) != 0, axis=1)
        zero[np.unique(member.channels[used & (member.channels >= 0)])] = False
    return zero
