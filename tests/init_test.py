"""`tfdist` has what `tf.distribute` has."""

import contextlib

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

import tfdist

OURS = {
    "MirroredStrategy",
    "MultiWorkerMirroredStrategy",
    "ParameterServerStrategy",
    "TPUStrategy",
    "experimental",
}
THEIRS = {name for name in dir(tf.distribute) if not name.startswith("_")}


def test_every_name_is_there():
    assert set(dir(tfdist)) >= THEIRS


@pytest.mark.parametrize("name", sorted(THEIRS - OURS))
def test_what_is_not_tfdists_is_tensorflows(name):
    assert getattr(tfdist, name) is getattr(tf.distribute, name)


@pytest.mark.parametrize("name", sorted(OURS - {"experimental"}))
def test_strategies_are_tfdists(name):
    strategy = getattr(tfdist, name)
    assert strategy is not getattr(tf.distribute, name)
    assert issubclass(strategy, getattr(tf.distribute, name))


X = np.random.default_rng(0).normal(size=(19, 4)).astype("float32")


def trained(scope, **compile):
    keras.utils.set_random_seed(5)
    with scope:
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(6, activation="tanh"),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.2, seed=1),
                keras.layers.Dense(2),
            ]
        )
        optimizer = keras.optimizers.Adam(0.05, global_clipnorm=0.3, gradient_accumulation_steps=2)
        model.compile(optimizer, "mse", metrics=["mae"], **compile)
    options = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    history = model.fit(X, X[:, :2], validation_data=(X, X[:, :2]), **options).history
    predictions = model.predict(X, verbose=0)
    return [*history.values(), predictions, model.evaluate(X, X[:, :2], verbose=0), *model.weights]


@pytest.mark.parametrize(
    "compile", [{}, {"steps_per_execution": 3}, {"run_eagerly": True}], ids=str
)
def test_one_device_trains_as_plain_keras_does(compile):
    two_cpus()  # Keras is patched
    found = trained(tfdist.OneDeviceStrategy(devices.PAIR[1]).scope(), **compile)
    plain = trained(contextlib.nullcontext(), **compile)
    for mine, theirs in zip(found, plain, strict=True):
        np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), rtol=1e-6, atol=1e-7)


def test_a_strategy_that_is_set_for_good():
    def loss():
        keras.utils.set_random_seed(5)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse")
        history = model.fit(X, X[:, :2], batch_size=4, epochs=2, shuffle=False, verbose=0)
        return model.distribute_strategy, history.history["loss"]

    strategy = two_cpus()
    tfdist.experimental_set_strategy(strategy)
    try:
        assert tfdist.has_strategy() and tfdist.get_strategy() is strategy
        used, found = loss()
    finally:
        tfdist.experimental_set_strategy(None)
    assert used is strategy
    np.testing.assert_allclose(found, loss()[1], rtol=1e-5)


def test_a_custom_loop_with_the_names_handed_on():
    strategy = two_cpus()
    number = strategy.run(lambda: tfdist.get_replica_context().replica_id_in_sync_group + 1)
    assert float(strategy.reduce(tfdist.ReduceOp.SUM, number, axis=None)) == 3.0
