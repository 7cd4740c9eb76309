"""What a user adds to `compile` and `fit`: what works, and what is refused."""

import pathlib
import tempfile

import numpy as np

from async_cases.common import BATCH, classifier, data, frozen


def callbacks(strategy):
    import keras

    x, y = data()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        model = classifier(strategy, lambda: keras.optimizers.Adam(0.01))
        history = model.fit(
            x,
            y,
            epochs=20,
            steps_per_epoch=2,
            batch_size=BATCH,
            verbose=0,
            validation_data=(x, y),
            callbacks=[
                keras.callbacks.EarlyStopping("val_loss", min_delta=100.0, patience=2),
                keras.callbacks.ModelCheckpoint(directory / "best.keras", save_best_only=True),
                keras.callbacks.CSVLogger(directory / "log.csv"),
                keras.callbacks.TensorBoard(directory / "board"),
            ],
        ).history
        loaded = keras.saving.load_model(directory / "best.keras")
        predicted = loaded.predict(x, verbose=0)
        return {
            "epochs": len(history["loss"]),
            "iterations": int(model.optimizer.iterations),
            "csv": (directory / "log.csv").read_text().splitlines(),
            "board": len(list((directory / "board").rglob("events*"))),
            "best": min(history["val_loss"]),
            "loaded": float(-np.log(predicted[np.arange(len(y)), y]).mean()),
        }


def refusals(strategy):
    """What is refused, and in which words."""
    import keras

    import tfdist

    x, y = data()
    found = {}

    def refused(name, optimizer=keras.optimizers.SGD, callbacks=(), **options):
        model = classifier(strategy, optimizer, **options)
        try:
            model.fit(x, y, verbose=0, callbacks=list(callbacks))
        except ValueError as error:
            found[name] = str(error)

    refused("accumulation", lambda: keras.optimizers.SGD(gradient_accumulation_steps=2))
    refused("loss scaling", lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    refused("eager", run_eagerly=True)
    refused("local", callbacks=[tfdist.callbacks.LocalSGD(4)])
    model = frozen(strategy)
    try:
        model.fit(x[:0], y[:0], verbose=0)
    except ValueError as error:
        found["empty"] = str(error)
    try:
        model.fit(lambda context: 3, verbose=0)
    except TypeError as error:
        found["no dataset"] = str(error)
    return found
