import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

from tfdist.data.split import GlobalBatch
from tfdist.strategies import keras_functions as module

X = np.random.default_rng(3).normal(size=(22, 3))
Y = np.linspace(0.2, 3, 22)[:, None] * X[:, :1]


# -- batches ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, examples",
    [
        (np.zeros((5, 2)), 5),
        ((np.zeros((5, 2)), np.zeros(5)), 5),
        (({"a": np.zeros((4, 1)), "b": np.zeros((4, 2))}, np.zeros(4), np.ones(4)), 4),
        (([None, np.zeros((3, 2))], np.zeros(3)), 3),
        ((lambda: tf.ragged.constant([[1], [], [2, 3]]), np.zeros(3)), 3),
        ((lambda: tf.sparse.from_dense(np.eye(6, 2)), np.zeros(6)), 6),
        (np.zeros((0, 2)), 0),
    ],
)
def test_examples_are_counted(data, examples):
    def tensor_of(value):
        return value() if callable(value) else value if value is None else tf.constant(value)

    data = tf.nest.map_structure(tensor_of, data)
    count = module.count_examples(data)
    assert int(count) == examples and count.dtype == tf.int32 and count.shape == ()
    unpacked, own, everyone = module.unpack(data)
    assert unpacked is data and int(own) == examples and everyone is None


def test_a_global_batch_knows_its_size():
    batch = GlobalBatch(data=(1, 2), examples=3, global_examples=7)
    assert module.unpack(batch) == ((1, 2), 3, 7)


@pytest.mark.parametrize("data", [(None, np.zeros(3)), ({}, np.zeros(3))])
def test_a_batch_without_inputs_is_an_error(data):
    with pytest.raises(ValueError, match="at least one input tensor with a batch") as error:
        module.count_examples(data)
    assert "Yield `(x, y)`" in str(error.value)


# -- metrics ------------------------------------------------------------------------


def compiled(**options):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.1), "mse", **options)
    return model


def under(strategy, make=compiled, **options):
    with (strategy or tf.distribute.get_strategy()).scope():
        return make(**options)


def test_metric_variables_are_listed_once():
    model = under(two_cpus(), metrics=["mae", "mse"])
    model.evaluate(X, Y, verbose=0)
    found = module.metric_variables(model)
    expected = {id(v) for metric in model.metrics for v in metric.variables}
    assert {id(v) for v in found} == expected and len(found) == len(expected) == 6


def test_one_worker_needs_no_global_copies():
    strategy = two_cpus()
    model = under(strategy, metrics=["mae"])
    model.evaluate(X, Y, verbose=0)
    before = len(strategy.extended.worker_devices), len(model.variables)
    module.keep_global_copies(strategy, model)
    assert before == (2, len(model.variables))
    assert all("_tfdist_global_copy" not in vars(v.value) for v in module.metric_variables(model))


# -- what Keras' trainer does -----------------------------------------------------------


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


def test_a_predict_step_of_the_users():
    class Twice(OwnStep):
        def predict_step(self, data):
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            return {"once": self(x), "rows": x[:, :2]}

    with two_cpus().scope():
        model = Twice()
    outputs = model.predict(X, batch_size=7, verbose=0)  # 22 = 3 x 7 + 1
    np.testing.assert_allclose(outputs["rows"], X[:, :2], rtol=1e-6)
    np.testing.assert_allclose(outputs["once"], X.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)
