"""What a report knows of a model: its layers' weights and products, and what was measured."""

from __future__ import annotations

import dataclasses
import gzip
import math
import os
from collections.abc import Sequence

import keras
import numpy as np

from tfdist.compat.layers import all_layers, own_variables
from tfdist.model_compression.inference_graph import InferenceGraph, inference_graph, input_specs
from tfdist.model_compression.reporting.latency import Latency
from tfdist.model_compression.reporting.macs import Product, name_of, products_of

_GZIP_LEVEL = 6  # gzip's own default


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """One layer, without those inside of it.

    Attributes:
        name: its path in the model.
        parameters: int, the weights that it has made, trainable or not.
        nonzeros: int, how many of them are not zero.
        macs: int, multiply-accumulates of one example; None where they are not known.
        nonzero_macs: int, those of them that meet a weight that is not zero: MACs times the
            part of the kernel that is not zero.
        bytes: int, its weights' as arrays, as `save_weights` stores them, uncompressed.
        gzip_bytes: int, those of these bytes after gzip.
    """

    name: str
    parameters: int
    nonzeros: int
    macs: int | None
    nonzero_macs: int | None
    bytes: int
    gzip_bytes: int


COUNTS = ("parameters", "nonzeros", "macs", "nonzero_macs", "bytes", "gzip_bytes")


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """A model.

    Attributes:
        name: the model's, or its file's.
        layers: list of `LayerFacts`, those with weights or MACs.
        file_bytes, file_gzip_bytes: int, of the file that it was loaded from; else None.
        metrics: dict of what `evaluate` gave, by name; None without data.
        latency: a `Latency`; None where the model could not be called by itself.
        notes: list of str.
    """

    name: str
    layers: list[LayerFacts]
    file_bytes: int | None
    file_gzip_bytes: int | None
    metrics: dict[str, float] | None
    latency: Latency | None
    notes: list[str]

    def total(self, count: str) -> int | None:
        """The sum over the layers of one of `COUNTS`; None if it is not known."""
        values = [getattr(layer, count) for layer in self.layers]
        return None if None in values else sum(values)


def graph_of(model: keras.Model) -> tuple[InferenceGraph | None, list[str]]:
    """The graph of a prediction, or None, and notes."""
    try:
        graph, specs = inference_graph(model), keras.tree.flatten(input_specs(model))
    except ValueError as error:
        return None, [f"MACs and latency are not known. {error}"]
    chosen = {
        got
        for spec, given in zip(specs, graph.inputs)
        for size, got in zip(spec.shape[1:], given.shape[1:])
        if size is None
    }
    if not chosen:
        return graph, []
    lengths = " or ".join(str(one) for one in sorted(chosen))
    return graph, [f"MACs and latency are those of inputs whose open axes are {lengths} long."]


def layers_of(
    model: keras.Model, graph: InferenceGraph | None
) -> tuple[list[LayerFacts], list[str]]:
    """The layers of a model with their counts, and notes of what was not counted."""
    variables: dict[str, list[keras.Variable]] = {}
    owners: dict[int, str] = {}
    seen: set[int] = set()
    for layer in all_layers(model):
        own = [v for v in own_variables(layer) if id(v) not in seen]
        seen |= {id(v) for v in own}
        name = name_of(layer, model)
        variables.setdefault(name, []).extend(own)
        owners |= {id(v): name for v in own}
    weights = {id(v) for v in model.weights}  # without the states of random generators
    values = {
        name: [keras.ops.convert_to_numpy(v) for v in own if id(v) in weights]
        for name, own in variables.items()
    }
    products, notes = products_of(model, graph, owners) if graph else (None, [])
    batch = _batch(graph)
    found = [
        _facts(name, values[name], _of(name, products), batch)
        for name in _in_order(list(values), graph, owners)
    ]
    return [one for one in found if one.parameters or one.macs], notes


def gzipped(data: Sequence[bytes]) -> int:
    """The bytes that gzip makes of `data`."""
    return len(gzip.compress(b"".join(data), _GZIP_LEVEL, mtime=0)) if any(data) else 0


def file_sizes(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The bytes of a file, and those after gzip."""
    with open(path, "rb") as file:
        data = file.read()
    return len(data), gzipped([data])


def _in_order(names, graph, owners):
    """The names of layers as a prediction meets them, each in front of those inside of it."""
    met = [owners[id(v)] for v in graph.variables.values() if id(v) in owners] if graph else []

    def place(name):
        within = [i for i, one in enumerate(met) if f"{one}/".startswith(f"{name}/")]
        return min(within, default=len(met)), len(name) if within else 0

    return sorted(names, key=place)


def _of(name, products):
    return None if products is None else [one for one in products if one.layer == name]


def _batch(graph):
    """How many examples one call takes: the inputs' first axis, where they have it in common."""
    sizes = {t.shape[0] for t in graph.inputs if t.shape.rank} if graph else set()
    return sizes.pop() if len(sizes) == 1 else 1


def _facts(name, arrays, products, batch):
    macs = nonzero = None
    if products is not None:
        macs = round(sum(one.macs for one in products) / batch)
        nonzero = round(sum(one.macs * _density(one) for one in products) / batch)
    return LayerFacts(
        name,
        sum(value.size for value in arrays),
        sum(int(np.count_nonzero(value != 0)) for value in arrays),
        macs,
        nonzero,
        sum(value.nbytes for value in arrays),
        gzipped([value.tobytes() for value in arrays]),
    )


def _density(product: Product) -> float:
    if product.variable is None:
        return 1.0
    value = keras.ops.convert_to_numpy(product.variable)
    return float(np.count_nonzero(value != 0)) / max(1, math.prod(value.shape))
