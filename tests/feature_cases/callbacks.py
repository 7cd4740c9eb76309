"""What Keras' callbacks do, and who writes their files."""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from feature_cases.common import EACH_KIND, SLOW, X, Y, feature, fit, small_model, written


@feature(quick=EACH_KIND)
def EarlyStopping():
    stop = keras.callbacks.EarlyStopping("loss", min_delta=0.5, restore_best_weights=True)
    model = small_model()
    found = fit(model, epochs=8, callbacks=[stop])
    return {**found, "weight": model.get_weights()[0]}


@feature
def ReduceLROnPlateau():
    callback = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.3)
    return fit(small_model(), epochs=6, callbacks=[callback])


@feature
def SwapEMAWeights_with_validation():
    model = small_model(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8))
    callback = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    found = fit(model, epochs=3, validation_data=(X[:9], Y[:9]), callbacks=[callback])
    return {**found, "weight": model.get_weights()[0]}


@feature
def ModelCheckpoint(directory):
    path = directory / "best.keras"
    model = small_model()
    fit(model, callbacks=[keras.callbacks.ModelCheckpoint(path, "loss", save_best_only=True)])
    return {"written": written(path).exists(), "weight": model.get_weights()[0]}


@feature(quick=SLOW)
def BackupAndRestore(directory):
    return fit(small_model(), callbacks=[keras.callbacks.BackupAndRestore(directory / "backup")])


class _Interrupted(Exception):
    pass


class _InterruptAfter(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epochs:
            raise _Interrupted


@feature(quick=EACH_KIND)
def BackupAndRestore_after_an_interruption(directory):
    def model():
        return small_model(optimizer=keras.optimizers.Adam(0.02))

    def backup():
        return keras.callbacks.BackupAndRestore(directory / "backup")

    with contextlib.suppress(_Interrupted):
        fit(model(), epochs=4, callbacks=[backup(), _InterruptAfter(2)])
    written(directory)
    restored = model()
    found = fit(restored, epochs=4, callbacks=[backup()])  # the last two epochs alone
    whole = model()
    whole_losses = fit(whole, epochs=4)["loss"][2:]
    return {**found, "weight": restored.get_weights()[0], "whole": whole_losses}


@feature
def TensorBoard(directory):
    callback = keras.callbacks.TensorBoard(directory / "board")
    history = fit(small_model(), epochs=3, callbacks=[callback], validation_data=(X[:9], Y[:9]))
    files = sorted(written(directory / "board").rglob("events.*"))
    seen = {}
    for file in files:
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag in ("epoch_loss", "epoch_mae"):
                    key = f"{file.parent.name} {value.tag}"
                    seen.setdefault(key, []).append(float(tf.make_ndarray(value.tensor)))
    assert seen["train epoch_loss"] == np.float32(history["loss"]).tolist()
    assert seen["validation epoch_mae"] == np.float32(history["val_mae"]).tolist()
    return {**history, **seen, "files": len(files)}


@feature(quick=SLOW)
def LearningRateScheduler():
    callback = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    return fit(small_model(), epochs=3, callbacks=[callback])


@feature
def CSVLogger(directory):
    fit(small_model(), callbacks=[keras.callbacks.CSVLogger(directory / "log.csv")])
    return {"rows": len(written(directory / "log.csv").read_text().splitlines())}


@feature
def LambdaCallback():
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"]))
    )
    fit(small_model(), callbacks=[callback])
    return {"losses": seen}
