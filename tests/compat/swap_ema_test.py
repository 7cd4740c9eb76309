import keras
import numpy as np
import pytest
from keras.callbacks import SwapEMAWeights
from upstream import original, require, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat.variables import forget_assigned, was_assigned

X, Y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def model(wrap=lambda optimizer: optimizer):
    """A model with weights and averages whose sums round."""
    new = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    new.compile(wrap(keras.optimizers.SGD(use_ema=True)), "mse")
    new.optimizer.build(new.trainable_variables)
    rng = np.random.default_rng(0)
    for variable in [*new.variables, *averages(new)]:
        variable.assign(rng.normal(size=variable.shape))
    return new


def averages(of):
    optimizer = getattr(of.optimizer, "inner_optimizer", of.optimizer)
    return optimizer._model_variables_moving_average


def values(of):
    return [v.numpy() for v in of.variables], [v.numpy() for v in averages(of)]


def swap(of):
    """Brings the averages in, as Keras does in front of an evaluation."""
    callback = SwapEMAWeights()
    callback.set_model(of)
    callback.on_test_begin()
    return callback


def test_upstream():
    require(SwapEMAWeights, "_tf_swap_variables")
    require_parameters(SwapEMAWeights._tf_swap_variables, "self", "optimizer")
    one = model()
    require(one.optimizer, "_trainable_variables", "_model_variables_moving_average")


@pytest.mark.parametrize("wrap", [lambda one: one, keras.optimizers.LossScaleOptimizer])
def test_weights_and_averages_change_places_and_back_bit_for_bit(wrap):
    with two_cpus().scope():
        mine = model(wrap)
    weights, of_weights = values(mine)
    callback = swap(mine)
    for found, expected in zip(values(mine), (of_weights, weights)):
        np.testing.assert_array_equal(np.concatenate(found, None), np.concatenate(expected, None))
    for variable in [*mine.variables, *averages(mine)]:  # on all replicas
        first, second = variable.value.values
        np.testing.assert_array_equal(first, second)
    callback.on_test_end()
    for found, expected in zip(values(mine), (weights, of_weights)):
        np.testing.assert_array_equal(np.concatenate(found, None), np.concatenate(expected, None))


def test_the_values_are_those_of_plain_keras():
    with two_cpus().scope():
        mine = model()
    plain = model()
    swap(mine)
    swap(plain)
    for found, expected in zip(values(mine), values(plain)):
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_a_strategy_it_is_keras_own():
    plain, theirs = model(), model()
    swap(plain)
    original(SwapEMAWeights._tf_swap_variables)(SwapEMAWeights(), theirs.optimizer)
    assert [v.tobytes() for kind in values(plain) for v in kind] == [
        v.tobytes() for kind in values(theirs) for v in kind
    ]


def test_what_is_noted_of_a_value_goes_with_it():
    with two_cpus().scope():
        mine = model()
    kernel, average = mine.variables[0], averages(mine)[0]
    for variable in (kernel, average):
        forget_assigned(variable.value)
    callback = swap(mine)
    assert not was_assigned(kernel.value) and not was_assigned(average.value)
    kernel.assign(np.zeros((3, 1)))
    assert was_assigned(kernel.value)
    callback.on_test_end()
    assert was_assigned(average.value) and not was_assigned(kernel.value)
    np.testing.assert_array_equal(average, np.zeros((3, 1)))
