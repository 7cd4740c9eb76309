import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

from tfdist.strategies import stateful

X = np.random.default_rng(0).normal(size=(16, 3, 2)).astype("float32")
LAYERS = {
    "LSTM": lambda: keras.layers.LSTM(2, stateful=True, name="mine"),
    "stacked cells": lambda: keras.layers.RNN(
        [keras.layers.GRUCell(2), keras.layers.SimpleRNNCell(2)], stateful=True, name="mine"
    ),
    "bidirectional": lambda: keras.layers.Bidirectional(
        keras.layers.GRU(2, stateful=True, name="mine")
    ),
}


def model(rows, layer=LAYERS["LSTM"]):
    new = keras.Sequential([keras.Input(batch_shape=(rows, 3, 2)), layer(), keras.layers.Dense(1)])
    new.compile("sgd", "mse")
    return new


METHODS = {
    "fit": lambda model, **options: model.fit(X, X[:, 0, :1], verbose=0, **options),
    "evaluate": lambda model, **options: model.evaluate(X, X[:, 0, :1], verbose=0, **options),
    "predict": lambda model, **options: model.predict(X, verbose=0, **options),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_the_global_batch_is_not_a_replicas(layer, method):
    with two_cpus().scope():
        wide = model(8, layer)
    with pytest.raises(ValueError, match=r"states of the stateful layer '.*mine'") as error:
        METHODS[method](wide, batch_size=8)
    for part in ("batches of 8", "2 replicas each gets 4", "batch_shape=(4, ...)", "size=16`"):
        assert part in str(error.value)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_replicas_batch_trains(layer):
    with two_cpus().scope():
        narrow = model(4, layer)
    METHODS["fit"](narrow, batch_size=8)
    assert METHODS["predict"](narrow, batch_size=8).shape == (16, 1)


@pytest.mark.parametrize("drop_remainder", [True, False])
def test_a_dataset_and_validation_data(drop_remainder):
    with two_cpus().scope():
        narrow = model(4)
    data = tf.data.Dataset.from_tensor_slices((X, X[:, 0, :1]))
    with pytest.raises(ValueError, match=re.escape("batch_shape=(2, ...)")):
        narrow.fit(data.batch(4, drop_remainder).prefetch(1), shuffle=False, verbose=0)
    with pytest.raises(ValueError, match=re.escape("batch_shape=(2, ...)")):
        METHODS["fit"](
            narrow, batch_size=8, validation_data=(X, X[:, 0, :1]), validation_batch_size=4
        )


def test_one_process_and_layers_without_states_are_left_alone():
    METHODS["fit"](model(8), batch_size=8)
    with two_cpus().scope():
        without = model(8, lambda: keras.layers.LSTM(2))
    METHODS["fit"](without, batch_size=8)


STRATEGY = types.SimpleNamespace(num_replicas_in_sync=2, is_asynchronous=False)


def test_a_batch_that_replicas_cannot_share():
    with pytest.raises(ValueError, match="each gets 3 or 4") as error:
        stateful.check(STRATEGY, {"mine": 4}, 3, 7)
    assert "that 2 replicas can share evenly, such as `batch_size=8`" in str(error.value)


@pytest.mark.parametrize("num_batches, batch_size", [(1, 32), (2, 8), (None, None)])
def test_what_fits_or_is_not_known(num_batches, batch_size):
    stateful.check(STRATEGY, {"mine": 4}, num_batches, batch_size)
