"""How long one prediction takes on this machine."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.model_compression.inference_graph import InferenceGraph, input_specs

_WARM_UP, _LEAST, _MOST, _SECONDS = 3, 7, 101, 2.0


@dataclasses.dataclass(frozen=True)
class Latency:
    """Times of a single prediction, inside of a `tf.function`, without `predict` around it.

    Attributes:
        median_ms: the median, milliseconds.
        low_ms, high_ms: the quartiles.
        repeats: int, how often it was measured.
        batch_size: int, the examples of one prediction.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    repeats: int
    batch_size: int


def latencies(
    models: Sequence[keras.Model], graphs: Sequence[InferenceGraph | None]
) -> list[Latency | None]:
    """The models' latencies, measured in turn, so that a busy moment meets all of them.

    Args:
        models: Keras models.
        graphs: their graphs, for the shapes of their inputs; None for a model without one.
    """
    calls = [_call(model, graph) if graph else None for model, graph in zip(models, graphs)]
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        for _ in range(_WARM_UP):
            if call:
                call()
    end = time.perf_counter() + _SECONDS * len(calls)
    for repeat in range(_MOST):
        if repeat >= _LEAST and time.perf_counter() > end:
            break
        for call, found in zip(calls, times):
            if call:
                begin = time.perf_counter()
                call()
                found.append(1000 * (time.perf_counter() - begin))
    return [_summary(found, graph) if graph else None for found, graph in zip(times, graphs)]


def _call(model: keras.Model, graph: InferenceGraph) -> Callable[[], Any]:
    random = np.random.default_rng(0)
    values = [
        tf.constant(random.normal(size=given.shape), given.dtype)
        if given.dtype.is_floating
        else tf.zeros(given.shape, given.dtype)
        for given in graph.inputs
    ]
    inputs = tf.nest.pack_sequence_as(input_specs(model), values)
    predict = tf.function(lambda x: model(x, training=False), autograph=False)
    return lambda: [tensor.numpy() for tensor in tf.nest.flatten(predict(inputs))]


def _summary(times, graph):
    low, median, high = np.percentile(times, [25, 50, 75])
    batch = graph.inputs[0].shape[0] if graph.inputs and graph.inputs[0].shape.rank else 1
    return Latency(float(median), float(low), float(high), len(times), int(batch))
