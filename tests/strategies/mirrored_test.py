import pathlib
import re
import subprocess
import sys

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from signatures import arguments_of

import tfdist


def test_it_is_a_tf_distribute_strategy():
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == strategy.num_local_replicas == 2
    assert (strategy.num_workers, strategy.worker_index, strategy.is_chief) == (1, 0, True)


def test_it_takes_the_same_arguments():
    stock = arguments_of(tf.distribute.MirroredStrategy.__init__)
    assert arguments_of(tfdist.MirroredStrategy.__init__) == stock


def test_without_devices_it_is_where_tensorflows_is():
    mine, stock = tfdist.MirroredStrategy(), tf.distribute.MirroredStrategy()
    assert mine.extended.worker_devices == stock.extended.worker_devices


# Keras' own tests, with a word changed in the program that they are.
KERAS_TESTS = """
import sys
import pytest
import tensorflow as tf
import tfdist

tf.distribute.MirroredStrategy = tfdist.MirroredStrategy
# `test_epoch_iterator` looks into the batches of Keras' private iterator.
options = ["-c", "/dev/null", "-p", "no:cacheprovider", "-k", "not test_epoch_iterator", "-rA"]
sys.exit(pytest.main([*options, *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_keras_own_tests_of_strategies():
    directory = pathlib.Path(keras.__file__).parent / "src" / "backend" / "tensorflow"
    files = [directory / name for name in ("distribute_test.py", "optimizer_distribute_test.py")]
    command = [sys.executable, "-c", KERAS_TESTS, "--rootdir", directory, *files]
    result = subprocess.run(
        [str(one) for one in command], capture_output=True, text=True, timeout=240
    )
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    for name in ("test_gradient_accumulation", "test_correctness_with_fit_and_regularizer"):
        assert re.search(rf"^PASSED .*{name}$", result.stdout, re.MULTILINE), result.stdout


# -- fit ------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(19, 4))
Y = np.linspace(0.1, 4, 19)[:, None] * X[:, :2]


class Rows(keras.layers.Layer):
    """Adds each example's place in its replica's batch: a program that is not batch-wise."""

    def call(self, x):
        return x + tf.cast(tf.range(tf.shape(x)[0]), x.dtype)[:, None]


def trained(strategy=None, steps=1, **compile):
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(5)
    scope = (strategy or tf.distribute.get_strategy()).scope()
    with scope:
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(6, activation="tanh"),
                keras.layers.Dense(2),
            ]
        )
        optimizer = keras.optimizers.Adam(0.05, clipnorm=0.3, gradient_accumulation_steps=2)
        model.compile(optimizer, "mse", metrics=["mae"], steps_per_execution=steps, **compile)
    # 4 x 4 examples and 3: the last batch is unequal.
    history = model.fit(X, Y, batch_size=4, epochs=3, shuffle=False, verbose=0).history
    results = {v.path: v.numpy() for v in model.weights}
    results |= {f"history {name}": values for name, values in history.items()}
    results |= {f"evaluate {k}": v for k, v in evaluate(model).items()}
    return results, model


def evaluate(model):
    return model.evaluate(X, Y, batch_size=4, verbose=0, return_dict=True)


def assert_close(results, expected, rtol=1e-9):
    values = zip(results.values(), expected.values(), strict=True)
    for (mine, theirs), name in zip(values, expected):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("run_eagerly", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("steps", [1, 3])
def test_fit_equals_one_process(run_eagerly, steps):
    expected, _ = trained()
    results, _ = trained(tfdist.MirroredStrategy(devices.PAIR), steps, run_eagerly=run_eagerly)
    for name in ("history loss", "history mae"):
        assert len(results[name]) == 3
    assert_close(results, expected, rtol=1e-6)


def test_run_eagerly_equals_graph_mode():
    expected, _ = trained(tfdist.MirroredStrategy(devices.PAIR))
    results, _ = trained(tfdist.MirroredStrategy(devices.PAIR), run_eagerly=True)
    assert_close(results, expected)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [4, 6, 19])
def test_predictions_are_in_the_order_of_the_input(batch_size, steps):
    # 19 = 4 x 4 + 3 = 3 x 6 + 1: short batches, one with an empty replica.
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    with strategy.scope():
        inputs = keras.Input((4,))
        model = keras.Model(inputs, {"double": inputs * 2.0, "sum": keras.ops.sum(inputs, axis=1)})
        model.compile(steps_per_execution=steps)
    outputs = model.predict(X, batch_size=batch_size, verbose=0)
    np.testing.assert_allclose(outputs["double"], 2 * X, rtol=1e-6)
    np.testing.assert_allclose(outputs["sum"], X.sum(axis=1), rtol=1e-5, atol=1e-6)


def test_replicas_run_on_their_own_rows():
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), Rows()])
    outputs = model.predict(np.zeros((7, 1)), batch_size=7, verbose=0)
    assert outputs[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2]  # 4 rows and 3


@pytest.mark.parametrize("pipeline", ["even", "unequal"])
def test_a_pipeline_of_the_users_gives_the_mean_over_all_examples(pipeline):
    """`distribute_datasets_from_function`: nobody knows the size of the global batch."""
    sizes = {"even": [3, 3, 3, 3], "unequal": [5, 1, 2, 6]}[pipeline]
    parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])

    def batches():
        for rows in parts:
            yield X[rows], Y[rows]

    spec = (tf.TensorSpec([None, 4], tf.float64), tf.TensorSpec([None, 2], tf.float64))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=spec)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(sizes)))

    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(2, use_bias=False, kernel_initializer="zeros")]
        )
        model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    distributed = strategy.distribute_datasets_from_function(lambda context: dataset)
    history = model.fit(distributed, verbose=0, shuffle=False, steps_per_epoch=2).history

    kernel = np.zeros((4, 2))
    absolute = []
    for first, second in ((0, 1), (2, 3)):
        rows = np.concatenate([parts[first], parts[second]])
        error = X[rows] @ kernel - Y[rows]
        absolute.append(np.abs(error).mean(axis=1))
        kernel -= 0.1 * 2 * X[rows].T @ error / error.size
    np.testing.assert_allclose(model.layers[0].kernel, kernel, rtol=1e-12)
    np.testing.assert_allclose(history["mae"], [np.concatenate(absolute).mean()], rtol=1e-6)
