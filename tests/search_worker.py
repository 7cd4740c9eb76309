"""Searches for hyper-parameters of a tiny model; run by the tests.

Usage: search_worker.py {apart,together} DIRECTORY

Each worker prints "trains RANK UNITS" for each `fit`, and "done" with the results as JSON.
"""

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import tfdist

how, directory = sys.argv[1:]
strategy = tfdist.MultiWorkerMirroredStrategy() if how == "together" else None
rank = tfdist.rank()


class Said(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        units = self.model.layers[0].units
        print("trains", rank, units, flush=True)
        time.sleep(float(os.environ.get("SLEEP", 0)))


def build(hp):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 8))])
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


x = np.random.default_rng(0).normal(size=(32, 2))
results = tfdist.tuning.search(
    build,
    x,
    x.sum(1),
    validation_data=(x, x.sum(1)),
    epochs=1,
    batch_size=8,
    max_trials=4,
    directory=directory,
    strategy=strategy,
    callbacks=[Said()],
)
model = results.best_model()
score = float(model.evaluate(x, x.sum(1), verbose=0))
print("best", rank, round(score, 6), round(results.trials[0]["score"], 6), flush=True)
print("done", rank, results.to_json().replace("\n", ""), flush=True)
