"""Multiply-accumulates (MACs) of one prediction, counted in its graph.

Counted are convolutions (transposed and depthwise ones, too), matrix products and Einsum, from
the shapes of their tensors; sums, activations and normalizations are not, as in the literature.
Operations that no output needs are left out. One that reads a weight belongs to that weight's
layer, whatever stands between (a cast, a reshape, fake quantization); any other (the scores of
an attention) to the layer in whose name scope it stands. The body of a loop (an RNN's) counts
as often as it runs.

Limits: what a branch or a loop of unknown length does is left out, with a note. What XLA or
custom operations compute is not seen.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfdist.compat.layers import all_layers
from tfdist.model_compression.inference_graph import InferenceGraph
from tfdist.model_compression.reporting import operations

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclasses.dataclass(frozen=True)
class Product:
    """An operation that multiplies and adds up.

    Attributes:
        layer: the name of the Keras layer that it belongs to, see `name_of`.
        macs: int, its multiply-accumulates in one prediction.
        variable: the Keras variable that it multiplies by, or None.
    """

    layer: str
    macs: int
    variable: keras.Variable | None


def name_of(layer: keras.Layer, model: keras.Model) -> str:
    """A layer's path in `model`, the same in another model that holds a layer of that name."""
    path = layer.path or layer.name
    return path.removeprefix(f"{model.name}/") if layer is not model else path


def products_of(
    model: keras.Model, graph: InferenceGraph, owners: dict[int, str]
) -> tuple[list[Product], list[str]]:
    """All products of one prediction, and notes of what was not counted.

    Args:
        model: the Keras model.
        graph: its `InferenceGraph`; what is counted is that of its whole batch.
        owners: the names of layers by the `id` of a variable of theirs.
    """
    walk = _Walk(model, graph, owners)
    definition = graph.graph.as_graph_def(add_shapes=True)
    bound = {
        name.split(":")[0]: _Source(False, frozenset([id(variable)]))
        for name, variable in graph.variables.items()
    }
    bound |= {tensor.op.name: _DATA for tensor in graph.inputs}
    walk.functions = {one.signature.name: one for one in definition.library.function}
    walk.function(definition.node, bound, [t.op.name for t in graph.outputs], times=1)
    return walk.products, list(dict.fromkeys(walk.notes))


class _Source(NamedTuple):
    """What a tensor was computed from: of data, or else of these variables, by id, alone."""

    data: bool
    variables: frozenset[int] = frozenset()


_DATA, _CONSTANT = _Source(True), _Source(False)


class _Walk:
    """Goes through a graph, and the functions that it calls."""

    def __init__(self, model: keras.Model, graph: InferenceGraph, owners: dict[int, str]) -> None:
        self._graph, self._owners = graph, owners
        self._variables = {id(variable): variable for variable in graph.variables.values()}
        self._scopes = _Scopes(model)
        self.functions: dict[str, Any] = {}
        self.products: list[Product] = []
        self.notes: list[str] = []

    def function(
        self, nodes: Iterable[Any], bound: dict[str, _Source], results: list[str], times: int
    ) -> None:
        """Counts the products of a function.

        Args:
            nodes: its `NodeDef`s, in an order in which they can run.
            bound: dict of a `_Source` by the name of an argument.
            results: list of the names of the nodes that it returns.
            times: int, how often it runs.
        """
        by_name = {node.name: node for node in nodes}
        sources = dict(bound)
        for name, node in by_name.items():
            if name not in bound:
                sources[name] = _merged(sources.get(i, _DATA) for i in _inputs(node))
        for name in _needed(by_name, results):
            node = by_name[name]
            given = [sources.get(i, _DATA) for i in _inputs(node)]
            if node.op in operations.COUNTED:
                self._count(node, by_name, given, times)
            elif node.op in _LOOPS:
                self._loop(node, given, times)
            elif node.op in _CALLS:
                self._call(node.attr["f"].func.name, given, times)
            elif node.op in _BRANCHES and self._multiplies(node):
                self._note(node, "MACs in a branch are not counted.")

    def _count(self, node, nodes, given, times):
        shapes = [_shape(nodes, name) for name in node.input if not name.startswith("^")]
        macs = operations.COUNTED[node.op](node, shapes, _own_shape(node))
        if macs is None:
            self._note(node, f"MACs of {node.op} are not counted: its shape is not known.")
            return
        read = [v for one in given if not one.data for v in one.variables]
        variable = max(
            (self._variables[key] for key in read), key=lambda v: math.prod(v.shape), default=None
        )
        layer = self._owners.get(id(variable)) or self._scopes.layer(node.name)
        self.products.append(Product(layer, macs * times, variable))

    def _loop(self, node, given, times):
        steps = _constant(self._graph.graph, node, 1)
        if steps is not None and steps >= 0:
            self._call(node.attr["body"].func.name, given, times * steps)
        elif self._multiplies(node):
            self._note(node, "MACs in a loop of unknown length are not counted.")

    def _call(self, name, given, times):
        function = self.functions[name]
        arguments = [argument.name for argument in function.signature.input_arg]
        results = [value.split(":")[0] for value in function.ret.values()]
        self.function(function.node_def, dict(zip(arguments, given)), results, times)

    def _note(self, node, words):
        self.notes.append(f"{self._scopes.layer(node.name)}: {words}")

    def _multiplies(self, node):
        waiting, seen = _called(node), set()
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.functions:
                continue
            seen.add(name)
            for inner in self.functions[name].node_def:
                if inner.op in operations.COUNTED:
                    return True
                waiting += _called(inner)
        return False


class _Scopes:
    """Layers by the name scopes of operations; TensorFlow adds numbers to scopes' names."""

    def __init__(self, model):
        self._model = model
        self._layers = [one for one in all_layers(model) if one is not model]

    def layer(self, operation: str) -> str:
        """The name of the innermost layer in whose scope an operation stands."""
        parts = operation.split("/")[:-1]
        renamed = bool(parts) and parts[0] != self._model.name
        plain = [re.sub(r"_\d+$", "", part) if renamed else part for part in parts]
        best, depth = self._model, (-1, -1)
        for layer in self._layers:
            at = max((i for i, p in enumerate(plain) if p == layer.name), default=-1)
            if at < 0:
                at = max((i for i, p in enumerate(parts) if p == layer.name), default=-1)
            around = {*plain[:at], *parts[:at]}
            known = sum(part in around for part in (layer.path or "").split("/")[:-1])
            if at >= 0 and (at, known) > depth:
                best, depth = layer, (at, known)
        return name_of(best, self._model)


def _merged(sources):
    variables = frozenset()
    for one in sources:
        if one.data:
            return _DATA
        variables |= one.variables
    return _Source(False, variables) if variables else _CONSTANT


def _inputs(node):
    """The names of the nodes that a node reads; what it only waits for is left out."""
    return [name.split(":")[0] for name in node.input if not name.startswith("^")]


def _needed(nodes, results):
    """The names of the nodes that results are computed from, in their order."""
    needed, waiting = set(), list(results)
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in needed:
            needed.add(name)
            waiting += _inputs(nodes[name])
    return [name for name in nodes if name in needed]


def _own_shape(node, port=0):
    shapes = node.attr["_output_shapes"].list.shape
    if port >= len(shapes) or shapes[port].unknown_rank:
        return None
    sizes = tuple(dim.size for dim in shapes[port].dim)
    return None if -1 in sizes else sizes


def _shape(nodes, name):
    """The shape of an input, `node`, `node:port` or, in a function, `node:output:port`."""
    node, *rest = name.split(":")
    return _own_shape(nodes[node], int(rest[-1]) if rest else 0) if node in nodes else None


def _called(node):
    return [attribute.func.name for attribute in node.attr.values() if attribute.HasField("func")]


def _constant(graph, node, position):
    """The value of an input of a node of the outermost graph, an int; None if it is not one."""
    try:
        tensor = graph.get_operation_by_name(node.name).inputs[position]
        value = tf.get_static_value(tensor)
        if value is None:
            with tf.compat.v1.Session(graph=graph, config=_without_devices()) as session:
                value = session.run(tensor)
        return int(value)
    except (KeyError, tf.errors.OpError):  # a function's; or it depends on the data
        return None


def _without_devices():
    return tf.compat.v1.ConfigProto(device_count={"GPU": 0})
