"""One network pruned by half, without training, and shrunk; prints a row as JSON.

python benchmarks/shrinking/side.py NAME [--times]
"""

import json
import sys
import time

import keras
import networks
import numpy as np

from tfdist import model_compression as compression
from tfdist.model_compression.reporting.facts import graph_of, layers_of
from tfdist.model_compression.shrinking.check import largest_difference

BATCH, ROUNDS = 16, 7


def main(name, times):
    keras.utils.set_random_seed(0)
    model = networks.build(name)
    random = np.random.default_rng(0)
    for variable in model.weights:  # begin as zeros, which hides mistakes
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(random.normal(0, 0.1, variable.shape))
    row = {"network": name}
    try:
        row.update(shrunk(model, times))
    except Exception as error:
        text = " ".join(str(error).split())
        row["failed"] = f"{type(error).__name__}: {text[:9000]}"
    print("ROW " + json.dumps(row))


def shrunk(model, times):
    begin = time.perf_counter()
    half = compression.Constant(final=0.5)
    pruning = compression.prune(model, criterion="l2", structure="filter", schedule=half)
    pruning.apply()
    small = compression.shrink(model)
    seconds = time.perf_counter() - begin
    difference, _ = largest_difference(model, small)
    found = {
        "seconds": round(seconds, 1),
        "difference": difference,
        "sparsity": pruning.report().sparsity,
        "parameters": [one.count_params() for one in (model, small)],
        "macs": [macs(one) for one in (model, small)],
    }
    return found | (measured(model, small) if times else {})


def macs(model):
    layers, _ = layers_of(model, graph_of(model)[0])
    return sum(layer.macs or 0 for layer in layers)


def measured(model, small):
    """Milliseconds a step of `fit` and a batch of `predict`, of both in turn."""
    x = np.random.default_rng(0).normal(size=(4 * BATCH, *model.input_shape[1:])).astype("float32")
    y = np.random.default_rng(0).integers(0, model.output_shape[-1], len(x))
    for one in (model, small):
        one.compile("sgd", "sparse_categorical_crossentropy")
        one.fit(x, y, BATCH, verbose=0)
        one.predict(x, BATCH, verbose=0)
    times = {"fit_ms": [[], []], "predict_ms": [[], []]}
    for _ in range(ROUNDS):
        for place, one in enumerate((model, small)):
            for what, call in (
                ("fit_ms", lambda one=one: one.fit(x, y, BATCH, verbose=0)),
                ("predict_ms", lambda one=one: one.predict(x, BATCH, verbose=0)),
            ):
                begin = time.perf_counter()
                call()
                times[what][place].append(1e3 * (time.perf_counter() - begin) / 4)
    return {what: [float(np.median(t)) for t in both] for what, both in times.items()}


if __name__ == "__main__":
    main(sys.argv[1], "--times" in sys.argv)
