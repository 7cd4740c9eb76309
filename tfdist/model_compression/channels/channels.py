"""The channels of a model: which places of which variables are one, and which must stay."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import graphs
from tfdist.model_compression.channels import moves  # noqa: F401  (its rules are registered)
from tfdist.model_compression.channels.labels import Labels, axes_of
from tfdist.model_compression.channels.operations import follow
from tfdist.model_compression.inference_graph import InferenceGraph, inference_graph


@dataclasses.dataclass(frozen=True)
class Channels:
    """What is known of a model's channels.

    Attributes:
        graph: the `InferenceGraph`.
        of: dict of int64 arrays by a variable's id and an axis: the channel of each place.
        reasons: dict of str by channel: why it must stay.
        inputs, outputs: dict by a layer's id: what is known of the tensors that it was first
            called with, or returned: for each a list by axis of the channels of its places, or
            None.
    """

    graph: InferenceGraph
    of: dict[tuple[int, int], np.ndarray]
    reasons: dict[int, str]
    inputs: dict[int, list[list[np.ndarray | None]]]
    outputs: dict[int, list[list[np.ndarray | None]]]


def channels_of(model: keras.Model) -> Channels:
    """Follows the channels of `model` through the graph of a prediction.

    Raises:
        ValueError: the model cannot be called; see `inference_graph`.
    """
    graph, labels = inference_graph(model), Labels()
    own: dict[tuple[int, int], np.ndarray] = {}
    factors: dict[str, list[np.ndarray]] = {}
    for name, variable in graph.variables.items():
        found = []
        for axis, size in enumerate(variable.shape):
            if size > 1:
                # One variable can be handed in under several names, of one copy each.
                known = own.setdefault((id(variable), axis), labels.new(size))
                form = [1] * len(variable.shape)
                form[axis] = size
                found.append(known.reshape(form))
        factors[name] = found
    for tensor in graph.inputs:
        factors[tensor.name] = _of_input(tensor, labels)

    def where(operation):
        layer = graph.owners.get(operation.name)
        return model.name if layer is None else layer.path or layer.name

    _follow_all(graph.graph, factors, labels, where)
    for tensor in graph.outputs:
        for factor in factors.get(tensor.name, []):
            labels.keep(factor, "an output of the model")
    channels, reasons = labels.resolved()
    inputs: dict[int, list] = {}
    outputs: dict[int, list] = {}
    for layer, received, returned in graph.calls:
        inputs.setdefault(id(layer), _by_axis(received, factors, channels))
        outputs.setdefault(id(layer), _by_axis(returned, factors, channels))
    return Channels(
        graph, {key: channels[one] for key, one in own.items()}, reasons, inputs, outputs
    )


def _follow_all(graph, factors, labels, where):
    """Follows each operation of a graph; `factors`, by a tensor's name, is filled in."""
    for operation in graph.get_operations():
        if operation.type in ("Placeholder", "Const", "NoOp"):
            continue
        given = [factors.get(tensor.name, []) for tensor in operation.inputs]
        inner = graphs.called(operation)
        if inner is not None:
            own = {tensor.name: one for tensor, one in zip(inner.inputs, given)}
            name = where(operation)
            _follow_all(inner, own, labels, lambda _, name=name: name)
            followed = [own.get(tensor.name, []) for tensor in inner.outputs]
        elif operation.type == "ReadVariableOp":
            followed = [given[0]]
        else:
            followed = follow(operation, given, labels, where(operation))
        for tensor, found in zip(operation.outputs, followed):
            factors[tensor.name] = found


def _of_input(tensor, labels):
    """An input's places along its last axis are channels, which stay."""
    shape = tensor.shape.as_list()
    if len(shape) < 2 or shape[-1] == 1:
        return []
    own = labels.new(shape[-1])
    labels.keep(own, "an input of the model")
    return [own.reshape([1] * (len(shape) - 1) + [-1])]


def _by_axis(tensors, factors, channels):
    """Of each tensor, for each axis, the channels of its places, or None."""
    found = []
    for tensor in keras.tree.flatten(tensors):
        if not tf.is_symbolic_tensor(tensor):  # or made outside of the graph
            continue
        axes: list[np.ndarray | None] = [None] * len(tensor.shape)
        for factor in factors.get(tensor.name, []):
            (axis,) = axes_of(factor)
            axes[axis] = channels[factor.reshape(-1)]
        found.append(axes)
    return found
