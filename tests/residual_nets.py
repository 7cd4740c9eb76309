"""Residual networks, of which whole branches can go."""

import keras
from keras import layers


def convolutions(normalized=True):
    """Three branches on one trunk; the last one has an activation that is 0 at 0."""
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    for number in range(3):
        z = layers.Conv2D(6, 3, padding="same", use_bias=False, name=f"a{number}")(y)
        if normalized:
            z = layers.BatchNormalization(synchronized=True, name=f"an{number}")(z)
        z = layers.Conv2D(8, 3, padding="same", name=f"b{number}")(layers.ReLU()(z))
        if normalized:
            z = layers.BatchNormalization(synchronized=True, name=f"bn{number}")(z)
        z = layers.Dropout(0.0)(layers.ReLU()(z) if number == 2 else z)
        y = layers.Add(name=f"sum{number}")([z, y] if number == 1 else [y, z])
    y = layers.GlobalAveragePooling2D()(layers.ReLU()(y))
    return keras.Model(x, layers.Dense(4, name="last")(y), name="convolutions")


def transformer():
    """Two blocks of attention and MLP in front of which is a normalization; sums by `+`."""
    x = keras.Input((6, 8))
    y = layers.Dense(8, name="embed")(x)
    for number in range(2):
        z = layers.LayerNormalization(name=f"n{number}")(y)
        y = y + layers.MultiHeadAttention(2, 4, name=f"attention{number}")(z, z)
        z = layers.LayerNormalization(name=f"m{number}")(y)
        z = layers.Dense(16, activation="gelu", name=f"up{number}")(z)
        y = keras.ops.add(layers.Dense(8, name=f"down{number}")(z), y)
    y = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="end")(y))
    return keras.Model(x, layers.Dense(4, name="last")(y), name="transformer")


def nested():
    """A block that is a model, and a branch that is one."""
    inside = keras.Input((8,))
    z = layers.Dense(5, activation="relu", name="up")(inside)
    block = keras.Model(
        inside, layers.Add(name="inner")([inside, layers.Dense(8)(z)]), name="block"
    )
    mlp = keras.Sequential(
        [keras.Input((8,)), layers.Dense(5, activation="tanh"), layers.Dense(8)], name="mlp"
    )
    x = keras.Input((3,))
    y = block(layers.Dense(8, name="first")(x))
    y = layers.Add(name="outer")([y, mlp(y)])
    return keras.Model(x, layers.Dense(4, name="last")(y), name="nested")
