"""What layers keep, what constraints promise and what steps log, under gradient-sync callbacks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from feature_cases.layer_state import Counts
from keras import layers
from upstream import two_cpus

from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync, SyncSGD
from tfdist.compat import strategy as engine
from tfdist.gradient_compression import PowerSGD

CALLBACKS = {
    "LocalSGD": lambda: LocalSGD(3),
    "DiLoCo": lambda: DiLoCo(3),
    "PartialSync": lambda: PartialSync(2, 3),
    "SyncSGD": lambda: SyncSGD(PowerSGD(1)),
}
rng = np.random.default_rng(0)
X = rng.normal(size=(42, 6)).astype("float32")  # batches of 8: the last one has two examples
Y = X[:, :1] * 2 + 1
callbacks = pytest.mark.parametrize("name", CALLBACKS)


def parts_of(variable):
    return [part.numpy() for part in engine.local_components(variable.value)]


@callbacks
def test_constraints_hold_wherever_the_model_is_looked_at(name):
    norms = []

    def look(*_, **__):
        norms.extend(np.linalg.norm(part, axis=0) for part in parts_of(kernel))

    with two_cpus().scope():
        layer = layers.Dense(3, kernel_constraint="unit_norm")
        model = keras.Sequential([keras.Input((6,)), layer, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    kernel = layer.kernel
    looking = keras.callbacks.LambdaCallback(on_train_batch_end=look, on_epoch_end=look)
    model.fit(X, Y, 8, epochs=2, verbose=0, callbacks=[CALLBACKS[name](), looking])
    look()
    np.testing.assert_allclose(norms, 1.0, rtol=1e-5)


@callbacks
def test_counters_count_as_in_one_process(name):
    def counted(scope, callbacks):
        seen = []
        with scope:
            model = keras.Sequential([keras.Input((6,)), Counts(), layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.05), "mse")
        counts = model.layers[0]
        names = ("examples", "whole_examples", "wide_examples", "by_assign", "steps")

        def look(*_, **__):
            seen.append([int(getattr(counts, name).numpy()) for name in names])

        looking = keras.callbacks.LambdaCallback(on_epoch_end=look)
        for _ in range(2):
            model.fit(X, Y, 8, epochs=2, verbose=0, callbacks=[*callbacks, looking])
            look()
        return seen, [parts_of(getattr(counts, name)) for name in names]

    expected, _ = counted(keras.name_scope("plain"), [])
    assert expected[-1] == [168, 168, 168, 168, 24]
    found, parts = counted(two_cpus().scope(), [CALLBACKS[name]()])
    assert found == expected
    assert all(first == second for first, second in parts)


@callbacks
def test_states_of_rnns_stay_their_replicas(name):
    with two_cpus().scope():
        rnn = layers.SimpleRNN(2, stateful=True)
        model = keras.Sequential([keras.Input(batch_shape=(4, 3, 2)), rnn, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.0), "mse")
    sequences = rng.normal(size=(8, 3, 2)).astype("float32")
    callbacks = [CALLBACKS[name]()]
    model.fit(sequences, Y[:8], 8, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
    states = parts_of(rnn.states[0])
    reference = keras.Sequential(
        [keras.Input(batch_shape=(8, 3, 2)), layers.SimpleRNN(2, stateful=True), layers.Dense(1)]
    )
    for mine, theirs in zip(reference.trainable_variables, model.trainable_variables):
        mine.assign(theirs.numpy())
    for _ in range(4):
        reference.predict(sequences, batch_size=8, verbose=0)
    expected = reference.layers[0].states[0].numpy()
    np.testing.assert_allclose(np.concatenate(states), expected, rtol=1e-5, atol=1e-6)


class OwnLogs(keras.Model):
    """Its optimizer's rate is 0, so that local replicas hold the model of one process."""

    def __init__(self):
        inputs = keras.Input((6,))
        super().__init__(inputs, layers.Dense(1, activation="sigmoid")(inputs))
        self.recall, self.mean = keras.metrics.Recall(), keras.metrics.Mean()

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = tf.reduce_mean((predictions - y) ** 2)
        self.optimizer.apply(
            tape.gradient(loss, self.trainable_variables), self.trainable_variables
        )
        self.recall.update_state(y, predictions)
        self.mean.update_state(predictions)
        return {
            "loss": loss,
            "r": self.recall.result(),
            "more": {"twice": 2.0 * self.recall.result() + self.mean.result()},
        }


@callbacks
def test_logs_of_an_epoch_are_those_of_one_process(name):
    def history(scope, callbacks):
        keras.utils.set_random_seed(1)
        with scope:
            model = OwnLogs()
            model.compile(keras.optimizers.SGD(0.0))
        labels = (Y > 1).astype("float32")
        arguments = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        return model.fit(X[:40], labels[:40], callbacks=callbacks, **arguments).history

    expected = history(keras.name_scope("plain"), [])
    found = history(two_cpus().scope(), [CALLBACKS[name]()])
    for key in ("loss", "r", "twice"):
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-5, err_msg=key)
