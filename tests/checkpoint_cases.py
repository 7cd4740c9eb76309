"""A small training with everything that a resume could forget, and what came out of it."""

import contextlib
import functools
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf

import tfdist
from tfdist.checkpointing.files import WorkerFiles

EXAMPLES, BATCH, EPOCHS = 53, 8, 4  # seven steps an epoch, the last with five examples
_RNG = np.random.default_rng(0)
X = _RNG.normal(size=(EXAMPLES, 4)).astype("float32")
Y = _RNG.normal(size=(EXAMPLES, 1)).astype("float32")


class Crash(Exception):
    """Ends a training in the middle."""


class CrashAt(keras.callbacks.Callback):
    """Ends the training after so many executions of this process."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        self.step -= 1
        if self.step == 0:
            raise Crash


class CrashAtEpoch(keras.callbacks.Callback):
    """Ends the training at the end of so many epochs of this process, before it is saved."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.epochs -= 1
        if self.epochs == 0:
            raise Crash


class ByIndex(keras.utils.PyDataset):
    """Batches by index, of rows that are shuffled after each epoch."""

    def __init__(self):
        super().__init__()
        self.rows = np.arange(EXAMPLES)

    def __len__(self):
        return -(-EXAMPLES // BATCH)

    def __getitem__(self, index):
        rows = self.rows[index * BATCH : (index + 1) * BATCH]
        return X[rows], Y[rows]

    def on_epoch_end(self):
        np.random.shuffle(self.rows)


def _pipeline():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(EXAMPLES)


DATA = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": BATCH},
    "PyDataset": lambda: {"x": ByIndex()},
    "PyDataset, not shuffled": lambda: {"x": ByIndex(), "shuffle": False},
    "tf.data": lambda: {"x": _pipeline().batch(BATCH), "shuffle": False},
    "tf.data of unknown length": lambda: {
        "x": _pipeline().filter(lambda x, y: True).batch(BATCH),
        "shuffle": False,
    },
    "tf.data with steps_per_epoch": lambda: {
        "x": _pipeline().batch(BATCH).repeat(),
        "shuffle": False,
        "steps_per_epoch": 5,
    },
    "tf.data with a cache behind the shuffle": lambda: {
        "x": _pipeline().cache().batch(BATCH),
        "shuffle": False,
    },
    "shuffled validation": lambda: {
        "x": X,
        "y": Y,
        "batch_size": BATCH,
        # One short batch, so that its order matters to what is averaged.
        "validation_data": _pipeline().take(30).batch(7),
    },
}


@functools.cache
def whole():
    """What `train` gives without a strategy, uninterrupted."""
    with tempfile.TemporaryDirectory() as directory:
        return train(directory)


def batches_read_once():
    """A generator, which a restart cannot read again."""
    yield X, Y


def names(directory):
    """The checkpoints that worker 0 has in `directory`."""
    return WorkerFiles(directory, 0).names()


def scope_of(strategy):
    return strategy.scope() if strategy else contextlib.nullcontext()


def make_model(strategy=None, steps_per_execution=1, schedule=False, units=8):
    keras.utils.set_random_seed(7)
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.8) if schedule else 0.01
    with scope_of(strategy):
        model = keras.Sequential(
            [
                keras.layers.Dense(units, activation="relu"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.3),
                keras.layers.Dense(1),
            ]
        )
        model.compile(
            keras.optimizers.Adam(rate, use_ema=True),
            "mse",
            metrics=["mae"],
            steps_per_execution=steps_per_execution,
        )
    return model


def train(
    directory,
    strategy=None,
    data="arrays",
    crash=None,
    clock=None,
    sync=None,
    schedule=False,
    epochs=EPOCHS,
    **options,
):
    """Trains, or resumes; returns the bits of all variables, and History.

    Args:
        directory: of the checkpoints.
        strategy: a strategy, or None.
        data: a key of `DATA`.
        crash: a `CrashAt`, or None.
        clock: another callback, or None.
        sync: a gradient-sync callback, or None.
        schedule: whether the learning rate follows a schedule, not a callback.
        epochs: int.
        options: for `make_model`, and for `Checkpoint`.
    """
    kept = {"every_steps": 3}
    kept |= {k: options.pop(k) for k in ("max_to_keep", "on_write_error") if k in options}
    model = make_model(strategy, schedule=schedule, **options)
    callbacks = [
        tfdist.callbacks.Checkpoint(directory, **kept),
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
    ]
    if not schedule:
        callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", patience=1))
    callbacks += [callback for callback in (clock, sync, crash) if callback]
    arguments = {"validation_data": (X[:11], Y[:11]), **DATA[data]()}
    with warnings.catch_warnings():
        # Keras, of each pipeline whose length it does not know.
        warnings.filterwarnings("ignore", "Your input ran out of data")
        history = model.fit(**arguments, epochs=epochs, verbose=0, callbacks=callbacks)
    variables = [*model.variables, *model.optimizer.variables]
    bits = [variable.numpy().tobytes() for variable in variables]
    # That one is a time.
    logs = {name: values for name, values in history.history.items() if name != "sync_seconds"}
    return {"bits": bits, "history": logs, "epochs": history.epoch}
