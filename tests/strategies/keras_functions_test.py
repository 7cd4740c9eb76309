import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

X = np.random.default_rng(3).normal(size=(22, 3))
Y = np.linspace(0.2, 3, 22)[:, None] * X[:, :1]


def compiled(**options):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    return model


def under(strategy, make=compiled, **options):
    with (strategy or tf.distribute.get_strategy()).scope():
        return make(**options)


def dataset(batch=8, count=1):
    return tf.data.Dataset.from_tensor_slices((X, Y)).repeat(count).batch(batch)


def fit_and_more(strategy, steps_per_execution=1, **fit):
    model = under(strategy, metrics=["mae"], steps_per_execution=steps_per_execution)
    history = model.fit(dataset(**fit.pop("data", {})), verbose=0, shuffle=False, **fit).history
    return [np.asarray(v) for v in model.weights], history


FITS = {
    "short last execution": {"epochs": 2, "steps_per_execution": 2},
    "an execution longer than the data": {"epochs": 2, "steps_per_execution": 7},
    "infinite data": {"data": {"count": -1}, "epochs": 2, "steps_per_epoch": 3},
    "validation": {"epochs": 2, "validation_data": (X[:7], Y[:7]), "validation_batch_size": 3},
    "validation on data": {"validation_data": dataset, "validation_steps": 2},
}


@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_fit_equals_one_process(fit):
    fit = {k: v() if callable(v) else v for k, v in fit.items()}
    steps = {"steps_per_execution": fit.pop("steps_per_execution", 1)}
    expected, expected_history = fit_and_more(None, **steps, **dict(fit))
    weights, history = fit_and_more(two_cpus(), **steps, **dict(fit))
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
    assert list(history) == list(expected_history)
    for name in history:
        np.testing.assert_allclose(history[name], expected_history[name], rtol=1e-6, err_msg=name)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # plain Keras says it, too
def test_data_of_unknown_length_end_an_epoch():
    """`has_value` cannot be asked inside of a function with collectives in it."""
    unknown = dataset().filter(lambda x, y: True)
    results = []
    for strategy in (None, two_cpus()):
        model = under(strategy, metrics=["mae"], steps_per_execution=2)
        history = model.fit(unknown, epochs=3, verbose=0, shuffle=False).history
        evaluation = model.evaluate(unknown, verbose=0)
        results.append([*map(np.asarray, model.weights), history["loss"], evaluation])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


class OwnStep(keras.Model):
    """A train step of the user's: no `scale_loss`, and logs of its own."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            error = self(x, training=True) - y
            loss = tf.reduce_mean(tf.square(error))
        largest = tf.reduce_mean(tf.abs(error))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"mine": loss, "absolute": {"mean": largest}}


def own_step(**options):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = OwnStep()
    model.compile(keras.optimizers.SGD(0.1), **options)
    return model


@pytest.mark.parametrize("run_eagerly", [False, True], ids=["graph", "eager"])
def test_a_train_step_of_the_users(run_eagerly):
    results = []
    for strategy in (None, two_cpus()):
        model = under(strategy, own_step, run_eagerly=run_eagerly)
        logs = model.fit(dataset(), verbose=0, shuffle=False, epochs=2).history["mine"]
        results.append([*map(np.asarray, model.weights), logs])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10)
