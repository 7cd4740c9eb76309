"""What is registered is called by Keras' methods, in its place."""

import contextlib

import keras
import numpy as np
import pytest
from upstream import two_cpus

from tfdist import compat
from tfdist.compat import hooks
from tfdist.strategies import checks

X, Y = np.ones((8, 2)), np.ones((8, 1))


def model():
    new = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    new.compile("sgd", "mse")
    return new


@pytest.fixture
def registered(monkeypatch):
    """Registers hooks, for one test."""
    compat.install()
    monkeypatch.setattr(hooks, "_registered", hooks.registered())
    return hooks.register


def test_the_strategies_hand_over_their_checks():
    found = hooks.registered()
    assert (found.around, found.before_epochs) == (checks.around, checks.before_epochs)
    assert found.empty_dataset is checks.empty_dataset


def test_each_method_runs_inside(registered):
    calls = []

    @contextlib.contextmanager
    def around(method, model, arguments):
        calls.append(f"{method} begins")
        if method == "fit":
            arguments["epochs"] = 2
        yield
        calls.append(f"{method} ends")

    registered(hooks.Hooks(around=around))
    mine = model()
    history = mine.fit(X, Y, epochs=1, verbose=0)
    mine.evaluate(X, Y, verbose=0)
    mine.predict(X, verbose=0)
    assert calls == [
        f"{m} {what}" for m in ("fit", "evaluate", "predict") for what in ("begins", "ends")
    ]
    assert history.epoch == [0, 1]


def test_the_data_is_known_before_the_epochs(registered):
    with two_cpus().scope():
        mine = model()
    calls = []
    registered(hooks.Hooks(before_epochs=lambda *found: calls.append(found)))
    mine.fit(X, Y, batch_size=4, verbose=0)
    assert calls == [(mine.distribute_strategy, 2, 4)]
    model().fit(X, Y, batch_size=4, verbose=0)  # without a strategy
    assert len(calls) == 1


def test_without_hooks_keras_trains_as_ever(registered):
    def weights():
        keras.utils.set_random_seed(0)
        mine = model()
        mine.fit(X, Y, verbose=0)
        return mine.get_weights()

    expected = weights()
    registered(hooks.Hooks())
    for found, value in zip(weights(), expected, strict=True):
        np.testing.assert_array_equal(found, value)
