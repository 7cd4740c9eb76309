"""What metrics say of known scores, on whatever strategy there is; run by workers, too."""

import keras
import numpy as np
import tensorflow as tf

import tfdist

EXAMPLES, BATCH = 103, 10


def binary():
    """Logits `(examples, 1)`, labels and weights; batches' second halves have no positives."""
    random = np.random.default_rng(0)
    labels = (np.arange(EXAMPLES) % BATCH < BATCH // 2) & (random.random(EXAMPLES) < 0.7)
    logits = random.normal(size=EXAMPLES) * 4.0 + 3.0 * labels
    weights = random.uniform(0.1, 2.0, EXAMPLES)
    return logits[:, None].astype("float32"), labels.astype("int32"), weights.astype("float32")


def multi_class():
    """Logits `(examples, 4)`, labels and weights; the last class is rare."""
    random = np.random.default_rng(1)
    labels = random.choice(4, EXAMPLES, p=[0.5, 0.3, 0.17, 0.03]).astype("int32")
    logits = random.normal(size=(EXAMPLES, 4)) + 2.0 * np.eye(4)[labels]
    weights = random.uniform(0.1, 2.0, EXAMPLES)
    return logits.astype("float32"), labels, weights.astype("float32")


def multi_label():
    """Logits `(examples, 3)`, multi-hot labels and weights."""
    random = np.random.default_rng(2)
    labels = (random.random((EXAMPLES, 3)) < [0.2, 0.5, 0.7]).astype("int32")
    logits = random.normal(size=(EXAMPLES, 3)) + labels
    weights = random.uniform(0.1, 2.0, EXAMPLES)
    return logits.astype("float32"), labels, weights.astype("float32")


DATA = {"binary": binary, "multi_class": multi_class, "multi_label": multi_label}
ACTIVATIONS = {"binary": "sigmoid", "multi_class": "softmax", "multi_label": "sigmoid"}


def probabilities(kind):
    """Float32 probabilities of `DATA[kind]`, as the model has them."""
    logits = DATA[kind]()[0]
    return np.asarray(getattr(keras.ops, ACTIVATIONS[kind])(logits))


def metrics(kind):
    """The metrics of a kind, by name."""
    if kind == "binary":
        return [
            tfdist.metrics.ROCAUC(),
            tfdist.metrics.PRAUC(num_classes=1),
            tfdist.metrics.ROCAUC(num_bins=64, name="coarse"),
        ]
    multi = {"multi_label": kind == "multi_label"}
    return [
        tfdist.metrics.ROCAUC(**multi),
        tfdist.metrics.PRAUC(4 if kind == "multi_class" else 3, average="weighted", **multi),
        tfdist.metrics.ROCAUC(average="micro", name="micro", **multi),
    ]


def model_of(kind, scope, **compile):
    """A model whose scores are those of `DATA[kind]`, and that does not learn."""
    columns = DATA[kind]()[0].shape[-1]
    losses = {
        "binary": "binary_crossentropy",
        "multi_class": "sparse_categorical_crossentropy",
        "multi_label": "binary_crossentropy",
    }
    with scope:
        model = keras.Sequential(
            [
                keras.Input((columns,)),
                keras.layers.Dense(columns, kernel_initializer="identity"),
                keras.layers.Activation(ACTIVATIONS[kind]),
            ]
        )
        model.compile(
            keras.optimizers.SGD(0.0), losses[kind], weighted_metrics=metrics(kind), **compile
        )
    return model


def logs(kind, strategy, **compile):
    """What `fit` and `evaluate` say, and bounds and a curve after them."""
    model = model_of(kind, strategy.scope(), **compile)
    x, y, weights = DATA[kind]()
    labels = y[:, None] if kind == "binary" else y
    options = {"batch_size": BATCH, "sample_weight": weights, "verbose": 0}
    history = model.fit(x, labels, epochs=2, shuffle=False, **options).history
    evaluated = model.evaluate(x, labels, return_dict=True, **options)
    on_batch = {}
    if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
        model.reset_metrics()
        on_batch = model.test_on_batch(x, labels, weights, return_dict=True)
    areas = [metric for metric in _compiled(model) if isinstance(metric, tfdist.metrics.ROCAUC)]
    first, *_ = areas
    return {
        "fit": {name: float(values[-1]) for name, values in history.items()},
        "evaluate": {name: float(value) for name, value in evaluated.items()},
        "test_on_batch": {name: float(value) for name, value in on_batch.items()},
        "bounds": {metric.name: float(metric.error_bound()) for metric in areas},
        "curve": first.curve(class_id=0),
    }


def _compiled(model):
    (compiled,) = (one for one in model.metrics if one.name == "compile_metrics")
    return compiled.metrics


def sent(strategy):
    """The bytes that this worker sends for an `evaluate`, and the largest state of a metric."""
    model = model_of("binary", strategy.scope())
    x, y, weights = binary()
    options = {"batch_size": BATCH, "sample_weight": weights, "verbose": 0}
    model.evaluate(x, y[:, None], **options)
    before = strategy.ring.bytes_sent
    model.evaluate(x, y[:, None], **options)
    area = _compiled(model)[0]
    largest = max(8 * int(np.prod(v.shape)) for v in area.variables)
    return strategy.ring.bytes_sent - before, largest


def run(kinds):
    """`logs` of some kinds on the strategy of this process."""
    strategy = tfdist.auto_strategy()
    found = {kind: logs(kind, strategy) for kind in kinds}
    if getattr(strategy, "ring", None) is not None:
        found["sent"] = sent(strategy)
    return found
