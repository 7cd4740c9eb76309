"""Trainings in which the second worker does something else; run by the tests on two workers.

Prints, for each of them, the error that ended it before its first step, and goes on; in the
last one it is the first step of a second `fit`.
"""

import keras
import numpy as np
import tensorflow as tf

import tfdist

strategy = tfdist.MultiWorkerMirroredStrategy()
other = tfdist.rank() == 1


class Steps(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("a step was made:", what, flush=True)


def fit(units=3, rate=0.1, examples=64, batch_size=8, last=1.0, shard=None, then=None):
    with strategy.scope():
        dense = keras.layers.Dense(units)
        model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(rate), "mse")
    x, y = np.ones((examples, 4), "float32"), np.ones((examples, 1), "float32")
    x[examples // 2 :] = last
    if shard is None:
        model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[Steps()])
    else:
        dataset = tf.data.Dataset.from_tensor_slices((x, y)).shard(2, shard)
        model.fit(dataset.batch(batch_size), verbose=0, callbacks=[Steps()])
    if then is not None:
        model.layers[-1].set_weights([np.full((3, 1), then), np.ones(1)])
        print("weights are set", flush=True)
        model.fit(x, y, batch_size=batch_size, verbose=0, callbacks=[Steps()])


for what, chief, worker in (
    ("other model", {}, {"units": 5}),
    ("other learning rate", {}, {"rate": 0.2}),
    ("fewer batches", {}, {"examples": 32}),
    ("other batch size", {}, {"examples": 56, "batch_size": 7}),  # as many batches
    ("other data", {}, {"last": 2.0}),
    ("a shard of its own", {"shard": 0}, {"shard": 1}),
    ("other weights", {"then": 1.0}, {"then": 2.0}),
):
    try:
        fit(**(worker if other else chief))
    except RuntimeError as error:
        print(f"{what}: {error}", flush=True)
