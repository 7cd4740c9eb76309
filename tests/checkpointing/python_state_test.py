import random

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.checkpointing import python_state


def draws():
    return random.random(), np.random.rand()


def test_random_numbers_go_on_where_they_were():
    state = python_state.random_state()
    first = draws()
    assert draws() != first
    python_state.set_random_state(state)
    assert draws() == first


def test_the_seed_of_the_user():
    tf.random.set_seed(5)
    assert python_state.seed() == [5, False]
    python_state.set_seed(7, was_chosen=True)
    assert python_state.seed() == [7, True]
    python_state.set_seed(5, was_chosen=False)
    assert python_state.seed() == [5, False]


def test_a_seed_that_is_in_force_is_left_alone():
    # Setting it again would begin its random numbers anew.
    tf.random.set_seed(5)
    expected = [float(tf.random.uniform([])) for _ in range(2)]
    tf.random.set_seed(5)
    found = [float(tf.random.uniform([]))]
    python_state.set_seed(5, was_chosen=False)
    assert [*found, float(tf.random.uniform([]))] == expected


class Counter(keras.callbacks.Callback):
    def __init__(self, count):
        super().__init__()
        self.count = count

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state):
        self.count = state["count"]


def test_callbacks_of_the_users_are_asked_and_told_each_class_in_its_order():
    plain = keras.callbacks.LambdaCallback()
    states = python_state.callbacks_state([Counter(1), plain, Counter(2)])
    assert states == [["Counter", {"count": 1}], ["Counter", {"count": 2}]]
    new = [plain, Counter(0), Counter(0), Counter(0)]
    python_state.set_callbacks_state(new, states)
    assert [one.count for one in new[1:]] == [1, 2, 0]


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (
            lambda: keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
            {"best", "wait", "stopped_epoch", "best_epoch", "best_weights"},
        ),
        (
            lambda: keras.callbacks.ReduceLROnPlateau("loss"),
            {"best", "wait", "cooldown_counter"},
        ),
    ],
)
def test_kerass_own_go_on_as_if_nothing_had_been(make, names):
    """One callback sees six losses; another has the state of a third that saw three."""
    losses = [3.0, 1.0, 2.5, 2.6, 2.4, 1.5]  # the best of them before the interruption

    def see(callback, epochs):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        callback.set_model(model)
        if not epochs[0]:
            callback.on_train_begin()
        for epoch in epochs:
            callback.on_epoch_end(epoch, {"loss": losses[epoch]})

    whole, before, after = make(), make(), make()
    see(whole, range(6))
    see(before, range(3))
    (state,) = python_state.callbacks_state([before])
    assert set(state[1]) == names
    after.on_train_begin()
    python_state.set_callbacks_state([after], [state])
    see(after, range(3, 6))
    for name in names - {"best_weights"}:
        assert getattr(after, name) == getattr(whole, name), name
