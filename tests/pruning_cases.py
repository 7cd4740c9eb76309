"""The network that the tests of pruning train, and what they look at."""

import contextlib

import devices
import keras
import numpy as np
from keras import layers

import tfdist

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 8, 8, 3)), RNG.normal(size=(60, 4))
SIZES = {"convolution": 3 * 3 * 3 * 8, "hidden": 288 * 16, "last": 16 * 4}
SCOPES = {
    "no strategy": lambda: None,
    "one replica": lambda: tfdist.MirroredStrategy(devices.PAIR[:1]),
    "two replicas": lambda: tfdist.MirroredStrategy(devices.PAIR),
}


def build(where="no strategy", optimizer=("Adam", {}), **compiled):
    keras.utils.set_random_seed(1)
    name, arguments = optimizer
    strategy = SCOPES[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, activation="relu", name="convolution"),
                layers.BatchNormalization(synchronized=True, name="normalization"),
                layers.Flatten(name="flat"),
                layers.Dense(16, activation="relu", name="hidden"),
                layers.Dense(4, name="last"),
            ],
            name="network",
        )
        model.compile(getattr(keras.optimizers, name)(0.01, **arguments), "mse", **compiled)
    return model


def kernels(model):
    return {name: model.get_layer(name).kernel.numpy() for name in SIZES}


def zeros(model):
    return {name: int(np.sum(kernel == 0)) for name, kernel in kernels(model).items()}


class Watch(keras.callbacks.Callback):
    """The zeros behind each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(zeros(self.model))


def fit(model, *callbacks, epochs=2):
    return model.fit(X, Y, 8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))
