"""A linear model whose training NumPy repeats, for what prunes by gradients."""

import contextlib

import devices
import keras
import numpy as np

import tfdist

RNG = np.random.default_rng(5)
X, Y = RNG.normal(size=(20, 6)), RNG.normal(size=(20, 4))
BATCH, RATE = 8, 0.1  # batches of 8, 8 and 4
WAYS = {
    "no strategy": lambda: None,
    "one replica": lambda: tfdist.MirroredStrategy(devices.PAIR[:1]),
    "two replicas": lambda: tfdist.MirroredStrategy(devices.PAIR),
}


def build(where="no strategy", optimizer=keras.optimizers.SGD, arguments=None, **compiled):
    keras.utils.set_random_seed(3)
    strategy = WAYS[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="dense")])
        model.compile(optimizer(RATE, **(arguments or {})), "mse", **compiled)
    return model


def fit(model, *callbacks, epochs=2):
    arguments = {"epochs": epochs, "verbose": 0, "shuffle": False}
    return model.fit(X, Y, BATCH, callbacks=list(callbacks), **arguments)


class Oracle:
    """Gradient descent on the mean squared error, a batch a step, in NumPy.

    Attributes:
        kernel, bias: what is trained.
        step: int, how many steps were made.
    """

    def __init__(self, model):
        self.kernel, self.bias = (weight.copy() for weight in model.get_weights())
        self.step = 0

    def gradients(self):
        """Of the next batch."""
        places = [slice(0, 8), slice(8, 16), slice(16, 20)]
        x, y = X[places[self.step % 3]], Y[places[self.step % 3]]
        error = 2 * (x @ self.kernel + self.bias - y) / y.size
        return x.T @ error, error.sum(0)

    def update(self, of_kernel, of_bias):
        self.kernel = self.kernel - RATE * of_kernel
        self.bias = self.bias - RATE * of_bias
        self.step += 1


def all_but_smallest(scores, count):
    """Bool of the shape of `scores`: which stay; of equal ones the first go."""
    kept = np.ones(scores.size, bool)
    kept[np.argsort(scores, axis=None, kind="stable")[:count]] = False
    return kept.reshape(scores.shape)


def assert_trained(model, oracle, masks):
    """Kernel and bias are the oracle's, and zero where `masks` is False; on all replicas."""
    for variable, value in zip(model.weights, (oracle.kernel, oracle.bias)):
        for replica in getattr(variable.value, "values", (variable,)):
            np.testing.assert_allclose(replica.numpy(), value, atol=1e-12)
    np.testing.assert_array_equal(model.get_weights()[0] == 0, ~masks)
