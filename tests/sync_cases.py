"""Trainings by the gradient-sync callbacks, each with the oracle that says what comes out.

`train` runs one under a strategy; the tests compare it with `expected`.
"""

import contextlib

import keras
import numpy as np
import sync_oracle as oracle

import tfdist
from tfdist.compat.strategy import local_components

callbacks = tfdist.callbacks
VALIDATION = oracle.data(examples=11, seed=1)


class Case:
    """How to train.

    Attributes:
        callback: function that returns a callback, or None for none.
        agree: the oracle's.
        momentum: of the SGD of each worker.
        adam: whether workers train with Adam instead.
        validates: whether `fit` gets validation data.
        compile: further arguments of `compile`.
    """

    def __init__(self, callback, agree, momentum=0.9, adam=False, validates=False, **compile):
        self.callback, self.agree = callback, agree
        self.momentum, self.adam = momentum, adam
        self.validates, self.compile = validates, compile

    def optimizers(self):
        """Keras' optimizer and the oracle's."""
        if self.adam:
            return keras.optimizers.Adam(0.05), oracle.Adam(0.05)
        sgd = keras.optimizers.SGD(0.05, momentum=self.momentum)
        return sgd, oracle.SGD(0.05, momentum=self.momentum)


def _adam():
    return keras.optimizers.Adam(0.05)


CASES = {
    "plain": Case(None, oracle.Synchronous()),
    "plain, SGD": Case(None, oracle.Synchronous(), momentum=0.0),
    "SyncSGD": Case(callbacks.SyncSGD, oracle.Synchronous()),
    "SyncSGD, warm-up": Case(
        lambda: callbacks.SyncSGD(tfdist.gradient_compression.TopK(1.0), warmup_steps=5),
        oracle.Synchronous(),
    ),
    "LocalSGD(1), SGD": Case(lambda: callbacks.LocalSGD(1), oracle.Synchronous(), momentum=0.0),
    "LocalSGD(3)": Case(lambda: callbacks.LocalSGD(3), oracle.LocalSGD(3)),
    "LocalSGD(3), validation": Case(
        lambda: callbacks.LocalSGD(3), oracle.LocalSGD(3), validates=True
    ),
    "LocalSGD(3), Adam": Case(lambda: callbacks.LocalSGD(3), oracle.LocalSGD(3), adam=True),
    "LocalSGD(3), steps_per_execution": Case(
        lambda: callbacks.LocalSGD(3), oracle.LocalSGD(3), steps_per_execution=4
    ),
    "LocalSGD(5)": Case(lambda: callbacks.LocalSGD(5), oracle.LocalSGD(5)),
    "LocalSGD(100)": Case(lambda: callbacks.LocalSGD(100), oracle.LocalSGD(100)),
    "LocalSGD, warm-up, slow momentum": Case(
        lambda: callbacks.LocalSGD(4, warmup_steps=6, slow_momentum=0.6, slow_learning_rate=0.9),
        oracle.LocalSGD(4, warmup_steps=6, beta=0.6, alpha=0.9),
    ),
    "DiLoCo(3)": Case(lambda: callbacks.DiLoCo(3), oracle.DiLoCo(3)),
    "DiLoCo(4), Adam": Case(
        lambda: callbacks.DiLoCo(4, _adam()), oracle.DiLoCo(4, oracle.Adam(0.05))
    ),
    "DiLoCo(3), SGD(1.0)": Case(
        lambda: callbacks.DiLoCo(3, keras.optimizers.SGD(1.0)), oracle.LocalSGD(3)
    ),
    "DiLoCo(4), 2 fragments, validation": Case(
        lambda: callbacks.DiLoCo(4, fragments=2),
        oracle.StreamingDiLoCo(4, [oracle.KERNEL, oracle.BIAS]),
        validates=True,
    ),
    "DiLoCo(4), 2 fragments": Case(
        lambda: callbacks.DiLoCo(4, fragments=2),
        oracle.StreamingDiLoCo(4, [oracle.KERNEL, oracle.BIAS]),
    ),
    "PartialSync(2, 7)": Case(lambda: callbacks.PartialSync(2, 7), oracle.Synchronous()),
}

# Each algorithm and each path; the others differ in their optimizers alone.
ON_MIRRORED = [
    "SyncSGD",
    "SyncSGD, warm-up",
    "LocalSGD(3)",
    "LocalSGD(3), validation",
    "LocalSGD(5)",
    "LocalSGD(100)",
    "LocalSGD, warm-up, slow momentum",
    "DiLoCo(3)",
    "DiLoCo(4), 2 fragments",
    "DiLoCo(4), 2 fragments, validation",
    "PartialSync(2, 7)",
]


def of_worker(rank):
    """Callbacks, by name, that are not the same on all workers."""
    return {
        "other periods": [callbacks.LocalSGD(2 + rank)],
        "other callbacks": [callbacks.PartialSync(2, 4) if rank else callbacks.SyncSGD()],
        "the chief's alone": [] if rank else [callbacks.LocalSGD(4)],
    }


def expected(name, workers=2):
    """What the oracle says of a case, an `oracle.Trained`."""
    return oracle.train(workers, CASES[name].agree, CASES[name].optimizers()[1])


def build(strategy, optimizer, **compile):
    """The linear model, with the oracle's first weights."""
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = keras.Sequential([keras.Input((oracle.INPUTS,)), keras.layers.Dense(2)])
        model.compile(optimizer, "mse", metrics=["mae"], **compile)
    first = oracle.first_model()
    kernel = first[oracle.KERNEL].reshape(oracle.INPUTS, oracle.OUTPUTS)
    model.set_weights([kernel, first[oracle.BIAS]])
    return model


def fit(model, callbacks=(), **options):
    """Trains on the oracle's data, the batches in its order."""
    x, y = oracle.data()
    options = {"batch_size": oracle.BATCH, "epochs": oracle.EPOCHS, "verbose": 0, **options}
    return model.fit(x, y, shuffle=False, callbacks=list(callbacks), **options)


def weights(model):
    return np.concatenate([np.ravel(value) for value in model.get_weights()])


def replicas(model):
    """The weights of each replica of this worker."""
    parts = zip(*[local_components(v.value) for v in model.trainable_variables])
    return [np.concatenate([np.ravel(v.numpy()) for v in part]) for part in parts]


class Watch(keras.callbacks.Callback):
    """Notes what callbacks see."""

    def __init__(self):
        super().__init__()
        self.epochs, self.bytes = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.bytes.append(logs.get("sync_bytes"))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(weights(self.model))


def train(name, strategy):
    """Trains a case.

    Returns:
        A dict: "weights" at the end, those of each of this worker's "replicas", what
        was seen at the ends of "epochs", the "history", and the "bytes" of batch logs.
    """
    case = CASES[name]
    with strategy.scope():
        optimizer = case.optimizers()[0]
    model, watch = build(strategy, optimizer, **case.compile), Watch()
    options = {}
    if case.validates:
        options = {"validation_data": VALIDATION, "validation_batch_size": 4}
    with strategy.scope():
        ours = [case.callback()] if case.callback else []
    history = fit(model, [*ours, watch], **options).history
    return {
        "weights": weights(model),
        "replicas": replicas(model),
        "epochs": watch.epochs,
        "history": history,
        "bytes": watch.bytes,
    }
