import devices
import keras
import numpy as np
import tensorflow as tf
from upstream import require

from tfdist.compat import training_state


def test_the_names_exist():
    optimizer = keras.optimizers.SGD()
    require(optimizer, "_trainable_variables")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    callbacks = [
        keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss"),
        keras.callbacks.ModelCheckpoint(
            "unused.weights.h5", save_freq=1000, save_weights_only=True
        ),
    ]
    model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0, callbacks=callbacks)
    for callback, names in zip(callbacks, training_state.CALLBACK_STATE.values()):
        require(callback, *names)
    assert training_state.optimized_variables(optimizer) == model.trainable_variables


def test_the_state_behind_unseeded_random_numbers():
    state = training_state.global_seed_state(create=True)
    before = state.numpy().copy()
    keras.random.normal((1,))
    assert training_state.global_seed_state() is state
    assert state.numpy().tolist() != before.tolist()


def test_which_strategy_is_none():
    assert training_state.is_single_device(tf.distribute.get_strategy())
    assert not training_state.is_single_device(tf.distribute.MirroredStrategy(devices.PAIR[:1]))
