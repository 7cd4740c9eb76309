"""Trains MNIST on two workers, synchronously or not; one of them may be slow.

Usage: async_side.py SIDE, a JSON object: "asynchronous" and "slow" (bools), "examples",
"max_staleness" (an int or null), "base_ms" (that each step's input takes, on each worker)
and "slow_factor". Prints one JSON line on the coordinator, or on the chief.
"""

import json
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "examples"), str(HERE.parent / "tests")]

import keras  # noqa: E402
import mnist_data  # noqa: E402
import numpy as np  # noqa: E402
import slow_worker  # noqa: E402
import tensorflow as tf  # noqa: E402

import tfdist  # noqa: E402

BATCH = 64  # of a worker
side = json.loads(sys.argv[1])
strategy = tfdist.auto_strategy()
keras.utils.set_random_seed(side.get("seed", 0))


class Timed(keras.callbacks.Callback):
    """The time from the first step's end to the last one's."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 9:
            self.begin = time.perf_counter()
        self.steps = batch - 9

    def on_epoch_end(self, epoch, logs=None):
        self.seconds = time.perf_counter() - self.begin
        self.logs = {name: float(value) for name, value in logs.items()}


def micro_seconds(worker):
    """What a batch of input takes on a worker: longer on worker 1, if it is slow."""
    slow = side["slow_factor"] if side["slow"] else 1
    return 1000 * side["base_ms"] * tf.where(tf.equal(worker, 1), slow, 1)


(x, y), (x_test, y_test) = mnist_data.load()
order = np.random.default_rng(0).permutation(len(x))[: side["examples"]]
x, y = x[order].reshape(-1, 784).astype("float32") / 255, y[order].astype("int32")
x_test = x_test.reshape(-1, 784).astype("float32") / 255

with strategy.scope():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((784,)), layers.Dense(128, activation="relu"), layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

callbacks = [timed := Timed()]
if side["asynchronous"]:
    callbacks.append(tfdist.callbacks.AsyncSGD(side["max_staleness"]))
    batch = BATCH

    def of_worker(context):
        """Each worker reads its share of the batches."""
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
        data = data.shard(context.num_input_pipelines, context.input_pipeline_id)
        return slow_worker.sleeping(data, micro_seconds(context.input_pipeline_id)).repeat()

    data = of_worker if side["base_ms"] else tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)
    steps = len(x) // BATCH
else:
    batch = BATCH * tfdist.world_size()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)
    if side["base_ms"]:
        data = slow_worker.sleeping(data, micro_seconds(tfdist.rank()))
    steps = len(x) // batch
epochs = side.get("epochs", 1)
model.fit(data, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=callbacks)
_, accuracy = model.evaluate(x_test, y_test, batch_size=500, verbose=0)
if tfdist.is_chief():
    found = {
        "examples_per_second": timed.steps * batch / timed.seconds,
        "accuracy": accuracy,
        "iterations": int(model.optimizer.iterations),
        "staleness_max": timed.logs.get("staleness_max"),
        "staleness_mean": timed.logs.get("staleness_mean"),
    }
    print("RESULT " + json.dumps(found), flush=True)
