"""Trains asynchronously, slowly enough to be killed in between; run by the tests.

Usage: async_worker.py [CHECKPOINTS]

Every process prints "pid JOB INDEX PID"; the coordinator prints each step and, at the
end, "done" with its iterations and the number of examples that its metrics have seen.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
task = json.loads(os.environ["TF_CONFIG"])["task"]
print("pid", task["type"], task["index"], os.getpid(), flush=True)

import keras  # noqa: E402
import numpy as np  # noqa: E402
import slow_worker  # noqa: E402
import tensorflow as tf  # noqa: E402

import tfdist  # noqa: E402

strategy = tfdist.auto_strategy()


class Slowly(keras.layers.Layer):
    """Takes 30 ms a step, so that a test comes in between."""

    def call(self, x):
        return x + slow_worker.sleep(30_000)

    def compute_output_spec(self, x):
        return x


class Seen(keras.metrics.Metric):
    """The number of examples: of all workers, or of the first one."""

    def __init__(self, name, only_first=False):
        super().__init__(name=name)
        self.only_first = only_first
        self.total = self.add_weight(shape=(), initializer="zeros", name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count = keras.ops.cast(keras.ops.shape(y_true)[0], "float32")
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        mine = tf.where(tf.equal(worker, 0) | (not self.only_first), count, 0.0)
        self.total.assign_add(mine)

    def result(self):
        return self.total


class Said(keras.callbacks.Callback):
    """Prints each step."""

    def on_epoch_begin(self, epoch, logs=None):
        print("begins with", int(self.model.optimizer.iterations), flush=True)

    def on_train_batch_end(self, batch, logs=None):
        print("step", batch, flush=True)


with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), Slowly(), keras.layers.Dense(1)])
    metrics = [Seen("seen"), Seen("seen_by_first", only_first=True)]
    model.compile(keras.optimizers.SGD(0.01), "mse", metrics=metrics)
callbacks = [Said()]
if len(sys.argv) > 1:
    callbacks.append(tfdist.callbacks.Checkpoint(sys.argv[1], every_steps=10))
x = np.random.default_rng(0).normal(size=(301, 4)).astype("float32")
epochs = int(os.environ.get("EPOCHS", 1))
options = {"batch_size": 2, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
history = model.fit(x, x[:, :1], **options).history
print("done", int(model.optimizer.iterations), int(history["seen"][-1]), flush=True)
print("by worker 0:", [int(count) for count in history["seen_by_first"]], flush=True)
