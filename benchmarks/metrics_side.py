"""One side of `metrics.py`.

Usage: metrics_side.py steps ROUNDS | metrics_side.py area {scikit-learn,tfdist,Keras} SCORES;
prints one JSON line.
"""

import itertools
import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "transformer"))

STEPS, WARM_UP = 20, 4
BATCH_OF_SCORES = 100_000


def steps(rounds):
    """The median CPU time of a step, by round and set of metrics, and the state of each set."""
    import keras
    import keras_side
    import sizes

    import tfdist

    own, ours = keras.metrics, tfdist.metrics
    sets = {
        "none": list,
        "Keras: AUC, precision, recall, accuracy": lambda: [
            own.AUC(from_logits=True),
            own.Precision(),
            own.Recall(),
            own.BinaryAccuracy(threshold=0.0),
        ],
        "tfdist: ROCAUC": lambda: [ours.ROCAUC(from_logits=True)],
        "tfdist: PRAUC": lambda: [ours.PRAUC(from_logits=True)],
        "tfdist: F1Score, Precision, Recall": lambda: [
            one(from_logits=True) for one in (ours.F1Score, ours.Precision, ours.Recall)
        ],
        "tfdist: MatthewsCorrelation, BrierScore, ExpectedCalibrationError": lambda: [
            one(from_logits=True)
            for one in (
                ours.MatthewsCorrelation,
                ours.BrierScore,
                ours.ExpectedCalibrationError,
            )
        ],
    }

    def trained(make_metrics):
        keras.utils.set_random_seed(0)
        transformer = keras_side.build(keras, jit_compile=False)
        flag = keras.layers.Dense(1, name="flag")(transformer.layers[-2].output)
        model = keras.Model(transformer.input, {"tokens": transformer.output, "flag": flag})
        losses = {
            "tokens": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "flag": keras.losses.BinaryCrossentropy(from_logits=True),
        }
        metrics = make_metrics()
        # XLA would take minutes to compile six of them; the metrics are the same operations.
        optimizer = keras.optimizers.Adam(1e-3)
        model.compile(optimizer, losses, metrics={"flag": metrics}, jit_compile=False)
        return model, metrics

    random = np.random.default_rng(0)
    x = random.integers(0, sizes.VOCABULARY, (STEPS * sizes.BATCH, sizes.TOKENS + 1))
    x, y = x[:, :-1].astype("int32"), x[:, 1:].astype("int32")
    labels = {"tokens": y, "flag": (y % 5 == 0).astype("float32")[..., None]}
    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.process_time())

    def fit(model, count):
        ends.clear()
        rows = count * sizes.BATCH
        mine = {name: values[:rows] for name, values in labels.items()}
        model.fit(x[:rows], mine, batch_size=sizes.BATCH, verbose=0, callbacks=[Clock()])
        return 1e3 * statistics.median(b - a for a, b in itertools.pairwise(ends))

    models = {name: trained(make) for name, make in sets.items()}
    for model, _ in models.values():
        fit(model, WARM_UP)
    found = {name: [] for name in sets}
    for _ in range(rounds):
        for name, (model, _) in models.items():
            found[name].append(fit(model, STEPS))
    size = {
        name: sum(
            int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize for m in metrics for v in m.variables
        )
        for name, (_, metrics) in models.items()
    }
    return {"step_ms": found, "bytes": size}


def area(library, count):
    """The area of so many scores, what it took, and how wrong it may be."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count, dtype=np.int32)
    logits = 6.0 * random.standard_normal(count, dtype=np.float32) + 4.0 * labels
    scores = (1.0 / (1.0 + np.exp(-logits))).astype(np.float32)
    del logits
    bound = None
    batches = range(0, count, BATCH_OF_SCORES)
    if library == "scikit-learn":
        from sklearn.metrics import roc_auc_score

        before, begin = _peak(), time.perf_counter()
        value = roc_auc_score(labels, scores)
    else:
        import keras

        import tfdist

        metric = tfdist.metrics.ROCAUC() if library == "tfdist" else keras.metrics.AUC()
        metric.update_state(labels[:10], scores[:10])
        metric.reset_state()
        before, begin = _peak(), time.perf_counter()
        for first in batches:
            part = slice(first, first + BATCH_OF_SCORES)
            metric.update_state(labels[part], scores[part])
        value = metric.result()
        bound = float(metric.error_bound()) if library == "tfdist" else None
    seconds = time.perf_counter() - begin
    found = {"area": float(value), "bound": bound, "scores": count, "seconds": seconds}
    return {**found, "megabytes": _peak() - before}


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    result = steps(int(rest[0])) if what == "steps" else area(rest[0], int(rest[1]))
    print("RESULT " + json.dumps(result), flush=True)
