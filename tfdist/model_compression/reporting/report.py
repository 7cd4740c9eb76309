"""`report`: a compressed model beside the one that it was made of."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import keras

from tfdist.model_compression.reporting import measured
from tfdist.model_compression.reporting.compression_report import CompressionReport
from tfdist.model_compression.reporting.facts import ModelFacts, file_sizes, graph_of, layers_of
from tfdist.model_compression.reporting.latency import latencies


def report(
    model_or_path: keras.Model | str | os.PathLike[str],
    other: keras.Model | str | os.PathLike[str] | None = None,
    data: Any = None,
) -> CompressionReport:
    """What a model is, by layer and in all, and what another one is beside it.

    Parameters, non-zeros, MACs (multiply-accumulates of one example, counted in the graph of a
    prediction), bytes of the weights as arrays, the same after gzip, what `evaluate` gives, and
    the latency of one prediction, measured here, of both models in turn.

    A model that is not compiled, as `shrink` returns it, is evaluated with the loss and the
    metrics of the other one, on its own predictions; neither model is changed. Under a
    strategy of several workers `evaluate` is a call of all of them, and so is this with `data`.

    Example:

    >>> import keras, tfdist
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> report = tfdist.model_compression.report(model)
    >>> report.before.total("parameters"), report.before.total("macs")
    (36, 32)

    Args:
        model_or_path: a built Keras model, or the path of a `.keras` file.
        other: the model that was made of it, in the same forms, or None.
        data: `(x, y)`, `(x, y, sample_weight)`, or a dataset of such batches, for `evaluate`;
            None leaves it out.

    Returns:
        A `CompressionReport`: print it, or call its `to_html`, `to_json`, `plot`.

    Raises:
        ValueError: a file of another kind; a model without weights; data without targets, or
            for models of which none is compiled.
        TypeError: something that is neither a model nor a path.
    """
    given = [model_or_path] if other is None else [model_or_path, other]
    models = [_model(one) for one in given]
    if data is not None:
        measured.check(data, models)
    graphs = [graph_of(model) for model in models]
    times = latencies(models, [graph for graph, _ in graphs])
    found = []
    for source, model, (graph, notes), latency in zip(given, models, graphs, times):
        layers, uncounted = layers_of(model, graph)
        metrics = None
        if data is not None:
            compiled = model if model.compiled else next(m for m in models if m.compiled)
            metrics = measured.evaluated(model, data, compiled)
            if compiled is not model:
                uncounted.append("Not compiled: evaluated with the other one's loss and metrics.")
        name, size, zipped = model.name, None, None
        if not isinstance(source, keras.Model):
            name, (size, zipped) = pathlib.Path(source).name, file_sizes(source)
        notes = notes + uncounted
        found.append(ModelFacts(name, layers, size, zipped, metrics, latency, notes))
    return CompressionReport(found[0], found[1] if len(found) > 1 else None)


def _model(source: keras.Model | str | os.PathLike[str]) -> keras.Model:
    if isinstance(source, keras.Model):
        if not source.weights:
            raise ValueError(
                f"The model {source.name!r} has no weights yet: expected one that is built. Give "
                "it a `keras.Input`, or call it on a batch first."
            )
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"Received a {type(source).__name__}: expected a Keras model, or the path of a "
            "`.keras` file."
        )
    path = pathlib.Path(source)
    if path.suffix == ".tflite":
        raise ValueError(
            f"{str(path)!r}: LiteRT files have no report yet: expected a Keras model or a "
            "`.keras` file. `tfdist.evaluate(path, data)` says how good such a file is."
        )
    if path.suffix != ".keras":
        raise ValueError(f"{str(path)!r}: expected a Keras model, or the path of a `.keras` file.")
    if not path.is_file():
        raise ValueError(f"{str(path)!r}: there is no such file.")
    return keras.saving.load_model(path)
