"""Compiled by XLA, replicas train to the numbers of one process that compiles nothing."""

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from upstream import two_cpus

import tfdist
from tfdist.strategies import compiled_step

EXAMPLES, BATCH = 29, 8  # four steps an epoch, the last with five examples
_rng = np.random.default_rng(1)
X = _rng.integers(0, 9, (EXAMPLES, 5))
Y = _rng.normal(size=(EXAMPLES, 1))


def train(
    strategy=None, mask=False, synchronized=False, model_class=keras.Model, options=None, **compile
):
    with strategy.scope() if strategy else tf.distribute.get_strategy().scope():
        keras.utils.set_random_seed(1)
        tokens = keras.Input((5,), dtype="int32")
        x = layers.Embedding(9, 4, mask_zero=mask)(tokens)
        x = layers.Dense(4, activation="gelu")(x)
        x = layers.BatchNormalization(synchronized=synchronized)(x)
        outputs = layers.Dense(1)(x if mask else layers.GlobalAveragePooling1D()(x))
        model = model_class(tokens, outputs)
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, **(options or {}))
        model.compile(optimizer, "mse", metrics=["mae"], **compile)
    y = np.repeat(Y, 5, 1)[..., None] if mask else Y
    history = model.fit(X, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0).history
    history["evaluate"] = model.evaluate(X, y, batch_size=BATCH, verbose=0)
    return {**history, **{f"weight {i}": w for i, w in enumerate(model.get_weights())}}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


@pytest.fixture
def compiled_functions(monkeypatch):
    """Counts what XLA compiles."""
    seen, original = [], compiled_step.with_xla

    def count(function):
        seen.append(function)
        return original(function)

    monkeypatch.setattr(compiled_step, "with_xla", count)
    return seen


@pytest.mark.parametrize(
    ("steps_per_execution", "optimizer"),
    [
        pytest.param(1, {}, marks=pytest.mark.slow),
        (3, {"global_clipnorm": 0.5}),
        (1, {"gradient_accumulation_steps": 2}),
    ],
)
def test_replicas(compiled_functions, steps_per_execution, optimizer):
    # With BatchNormalization that is not synchronized replicas are not one process.
    plain = train(two_cpus(), options=optimizer)
    assert not compiled_functions
    compile = {"jit_compile": True, "steps_per_execution": steps_per_execution}
    found = train(two_cpus(), options=optimizer, **compile)
    assert compiled_functions
    assert_same(found, plain)


def test_dense_gradients_in_single_precision():
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")

    def train_dense(strategy=None, **compile):
        with strategy.scope() if strategy else tf.distribute.get_strategy().scope():
            keras.utils.set_random_seed(1)
            model = keras.Sequential([keras.Input((5,)), layers.Dense(3), layers.Dense(1)])
            model.compile(keras.optimizers.SGD(0.01), "mse", **compile)
        model.fit(X, Y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    for found, expected in zip(train_dense(two_cpus(), jit_compile=True), train_dense()):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_one_replica(compiled_functions):
    found = train(tfdist.MirroredStrategy(devices.PAIR[:1]), jit_compile=True)
    assert compiled_functions
    assert_same(found, train())


def test_losses_that_communicate_are_not_compiled():
    assert_same(train(two_cpus(), mask=True, jit_compile=True), train(two_cpus(), mask=True))


def test_layers_that_communicate_are_not_compiled():
    found = train(two_cpus(), synchronized=True, jit_compile=True)
    assert_same(found, train(synchronized=True))


def test_a_train_step_of_the_users_own_is_not_cut(compiled_functions):
    class Model(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    found = train(two_cpus(), synchronized=True, model_class=Model, jit_compile=True)
    assert not compiled_functions
    assert_same(found, train(synchronized=True))
