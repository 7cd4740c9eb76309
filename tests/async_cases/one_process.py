"""Trainings, one step at a time, that end as in one process."""

import pathlib
import tempfile

import numpy as np

from async_cases.common import BATCH, classifier, data


def one_at_a_time(strategy):
    """With a bound of 0 steps are one after the other: the weights of one process."""
    import tfdist

    x, y = data()
    found = {}
    for name in SEQUENTIAL:
        optimizer, layers = _optimizer_and_layers(name)
        weights = []
        for where in (strategy, None):
            model = classifier(where, optimizer, *layers)
            callbacks = [tfdist.callbacks.AsyncSGD(max_staleness=0)] if where else []
            options = {"batch_size": BATCH, "epochs": 3, "shuffle": False, "verbose": 0}
            history = model.fit(x, y, callbacks=callbacks, **options).history
            weights.append((model.get_weights(), history["loss"], history["accuracy"]))
        found[name] = weights
    return found


def _optimizer_and_layers(name):
    """What to train with one step at a time: a function that makes an optimizer, and layers'."""
    import keras

    optimizers = keras.optimizers
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 20)
    return {
        "SGD with momentum": (lambda: optimizers.SGD(0.1, momentum=0.9), ()),
        "Adam with a schedule": (lambda: optimizers.Adam(schedule), ()),
        "AdamW": (lambda: optimizers.AdamW(0.01, weight_decay=0.1), ()),
        "clipped": (lambda: optimizers.SGD(0.5, global_clipnorm=0.1), ()),
        "moving average": (
            lambda: optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=4),
            (),
        ),
        "BatchNormalization": (
            lambda: optimizers.SGD(0.1),
            (lambda: keras.layers.BatchNormalization(momentum=0.9),),
        ),
    }[name]


SEQUENTIAL = (
    "SGD with momentum",
    "Adam with a schedule",
    "AdamW",
    "clipped",
    "moving average",
    "BatchNormalization",
)


def embeddings(strategy):
    """A table over two servers trains like one in one process, and is saved as one."""
    import contextlib

    import keras

    import tfdist

    ids = np.random.default_rng(1).integers(0, 11, (64, 3)).astype("int32")
    y = (ids.sum(axis=1, keepdims=True) % 2).astype("float32")
    found = {}
    for where in (strategy, None):
        keras.utils.set_random_seed(3)
        with where.scope() if where else contextlib.nullcontext():
            table = keras.layers.Embedding(11, 4)
            model = keras.Sequential(
                [keras.Input((3,), dtype="int32"), table, keras.layers.Flatten()]
                + [keras.layers.Dense(1)]
            )
            model.compile(keras.optimizers.SGD(0.1), "mse")
        callbacks = [tfdist.callbacks.AsyncSGD(max_staleness=0)] if where else []
        model.fit(ids, y, epochs=2, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
        found[where is None] = keras.ops.convert_to_numpy(table.embeddings)
        if where is None:
            continue
        found["devices"] = sorted({weight.value.device for weight in table.weights})
        found["shapes"] = [tuple(weight.shape) for weight in table.weights]
        graphs = [function.graph for function, _ in model.train_function._step._traced.values()]
        reads = [
            tuple(op.outputs[0].shape)
            for graph in graphs
            for op in graph.get_operations()
            if op.type == "ReadVariableOp"
        ]
        found["tables read"] = [shape for shape in reads if shape in found["shapes"]]
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "model.keras"
            model.save(path)
            found["predicted"] = model.predict(ids, verbose=0)
            loaded = keras.saving.load_model(path)
            found["loaded"] = [tuple(weight.shape) for weight in loaded.layers[0].weights]
            found["predicted by loaded"] = loaded.predict(ids, verbose=0)
            with where.scope():
                again = keras.saving.load_model(path)
            found["predicted by loaded in scope"] = again.predict(ids, verbose=0)
    return found
