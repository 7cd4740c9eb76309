"""A resumed training goes on with each replica's own state, and with what counters had counted."""

import checkpoint_cases as cases
import keras
import numpy as np
import pytest
from feature_cases.layer_state import Counts
from upstream import two_cpus

import tfdist
from tfdist.compat import strategy as engine

rng = np.random.default_rng(3)
X = rng.normal(size=(48, 3, 2)).astype("float32")
Y = rng.normal(size=(48, 1)).astype("float32")


def train(directory, sync, crash=None):
    keras.utils.set_random_seed(2)
    with two_cpus().scope():
        model = keras.Sequential(
            [
                keras.Input(batch_shape=(4, 3, 2)),
                keras.layers.SimpleRNN(3, stateful=True),
                Counts(),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    callbacks = [tfdist.callbacks.Checkpoint(directory, every_steps=2)]
    callbacks += [one for one in (sync and sync(), crash) if one is not None]
    try:
        model.fit(X, Y, 8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    except cases.Crash:
        return None
    parts = [engine.local_components(v.value) for v in model.variables]
    # As one process counts, though a replica's batch is a constant here.
    assert int(model.layers[1].whole_examples.numpy()) == 2 * len(X)
    states = [engine.local_components(v.value) for v in model.layers[0].states]
    assert all(a.numpy().tobytes() != b.numpy().tobytes() for a, b in states)
    return [part.numpy().tobytes() for each in parts for part in each]


@pytest.mark.parametrize(
    "sync", [None, lambda: tfdist.callbacks.LocalSGD(4)], ids=["every step", "LocalSGD"]
)
def test_it_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, deterministic, sync):
    expected = train(tmp_path / "whole", sync)
    assert train(tmp_path / "cut", sync, cases.CrashAt(9)) is None
    assert train(tmp_path / "cut", sync) == expected
