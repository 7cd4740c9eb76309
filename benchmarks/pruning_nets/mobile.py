"""A small network for Fashion-MNIST in the manner of MobileNetV2, with batch normalization.

Inverted residual blocks: a convolution of 1 x 1 that widens, a depthwise one of 3 x 3, one of
1 x 1 that narrows; where shapes agree the input is added.
"""

import keras
from fashion_cnn import BATCH, FILTERS, data

__all__ = ["BATCH", "FILTERS", "data"]
DENSE_EPOCHS, MORE_EPOCHS = 8, 4
FILTER_SPARSITY = 0.33
STEM, BLOCKS, HEAD = 8, ((8, 1), (16, 2), (16, 1), (24, 2), (24, 1)), 64  # filters, strides
WIDER = 3


def build():
    layers = keras.layers

    def convolved(x, layer, activation="relu"):
        x = layers.BatchNormalization(momentum=0.9)(layer(x))
        return layers.Activation(activation)(x) if activation else x

    def block(x, filters, strides):
        wide = WIDER * x.shape[-1]
        y = convolved(x, layers.Conv2D(wide, 1, use_bias=False))
        depthwise = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)
        y = convolved(y, depthwise)
        y = convolved(y, layers.Conv2D(filters, 1, use_bias=False), activation=None)
        return layers.Add()([x, y]) if y.shape == x.shape else y

    images = keras.Input((28, 28, 1))
    x = convolved(images, layers.Conv2D(STEM, 3, strides=2, padding="same", use_bias=False))
    for filters, strides in BLOCKS:
        x = block(x, filters, strides)
    x = convolved(x, layers.Conv2D(HEAD, 1, use_bias=False))
    return keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
