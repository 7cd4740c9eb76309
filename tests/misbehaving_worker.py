"""A training whose second worker does something else; run by the tests on two workers.

Usage: misbehaving_worker.py MODE [LocalSGD]: what it does, and whether workers go
their own ways until the end of the epoch.
"""

import os
import signal
import sys
import time

import keras
import numpy as np
import slowness

import tfdist

mode = sys.argv[1]
other = tfdist.rank() == 1
if mode == "TensorFlow in use":
    keras.ops.ones(())
if mode == "other seed":
    keras.utils.set_random_seed(1 + tfdist.rank())
strategy = tfdist.MultiWorkerMirroredStrategy()


def make_model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    return model


if mode == "outside the scope":
    keras.utils.set_random_seed(5)
    model = make_model()
else:
    with strategy.scope():
        model = make_model()


class Misbehave(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("a step was made", flush=True)
        if not other or batch < 2:
            return
        if mode == "sleeps in a callback":
            time.sleep(slowness.seconds(80))
        if mode == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "is stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if mode == "raises":
            raise ValueError("raised by worker 1")


x, y = np.ones((64, 4), "float32"), np.ones((64, 1), "float32")
if mode == "evaluates alone":
    if other:
        time.sleep(slowness.seconds(60))
    model.evaluate(x, y, verbose=0)
callbacks = [Misbehave()]
if sys.argv[2:] == ["LocalSGD"]:
    callbacks.append(tfdist.callbacks.LocalSGD(period=1000))
if mode == "outside the scope":
    x, y = x[: 8 * (1 + tfdist.rank())], y[: 8 * (1 + tfdist.rank())]
model.fit(x, y, batch_size=8, verbose=0, callbacks=callbacks)
if mode == "outside the scope":
    print("weights:", [float(w) for w in np.concatenate([v.ravel() for v in model.get_weights()])])
print("trained", flush=True)
