"""A convolutional network of 207,000 parameters for Fashion-MNIST."""

import pathlib
import sys

import keras

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))

BATCH = 128
DENSE_EPOCHS, MORE_EPOCHS = 10, 6
FILTERS = None  # all layers are pruned
FILTER_SPARSITY = 0.33  # leaves 11, 21 and 86 of 16, 32 and 128: 48.4 % of the multiplications
HELD_OUT = 10_000  # training images on which settings are chosen


def data(tuning, dense=False):
    """`(x, y), (x, y)`: to train with, and to measure with; training images if tuning."""
    import fashion_mnist_data

    train, test = fashion_mnist_data.load()
    if tuning:
        train, test = [one[:-HELD_OUT] for one in train], [one[-HELD_OUT:] for one in train]
    return [((x[..., None] / 255).astype("float32"), y.astype("int32")) for x, y in (train, test)]


def build(dropout):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 5, strides=2, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(dropout),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )
