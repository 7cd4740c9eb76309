"""Networks in which channels hang together in each way that is known, and one that zeroes half."""

import keras
import numpy as np
from keras import layers

from tfdist.model_compression.channels.channels import channels_of
from tfdist.model_compression.channels.groups import groups_of


def image(*more):
    return keras.Input((8, 8, 3)), *more


def chain():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(12, activation="softplus"),
            layers.Dense(4),
        ]
    )


def residual():
    (x,) = image()
    y = layers.Conv2D(8, 3, padding="same")(x)
    z = layers.Conv2D(12, 3, padding="same", activation="sigmoid")(y)
    z = layers.BatchNormalization(scale=False)(z)
    z = layers.Conv2D(8, 1)(z)
    y = layers.ReLU()(layers.Add()([y, z]))
    return keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(y)))


def squeeze_and_excite():
    (x,) = image()
    y = layers.Conv2D(8, 3)(x)
    z = layers.GlobalAveragePooling2D()(y)
    z = layers.Reshape((1, 1, 8))(z)
    z = layers.Conv2D(6, 1, activation="relu")(z)
    z = layers.Conv2D(8, 1, activation="sigmoid")(z)
    y = layers.Multiply()([y, z])
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(y)))


def concatenated():
    (x,) = image()
    parts = [layers.Conv2D(n, 3, padding="same")(x) for n in (4, 6)]
    y = layers.BatchNormalization()(layers.Concatenate()([*parts, x]))
    z = layers.Conv2D(6, 1, activation="gelu")(y)
    y = layers.Concatenate()([y, z])
    return keras.Model(x, layers.Dense(4)(layers.GlobalMaxPooling2D()(y)))


def added_in_parts():
    (x,) = image()
    parts = [layers.Conv2D(n, 3, padding="same")(x) for n in (4, 6)]
    y = layers.Add()([layers.Concatenate()(parts), layers.Conv2D(10, 1)(x)])
    return keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(y)))


def depthwise():
    (x,) = image()
    y = layers.Conv2D(6, 1)(x)
    y = layers.DepthwiseConv2D(3, depth_multiplier=2)(y)
    y = layers.SeparableConv2D(8, 3, activation="relu")(y)
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(y)))


def grouped():
    (x,) = image()
    y = layers.Conv2D(8, 1)(x)
    y = layers.Conv2D(12, 3, groups=4)(y)
    y = layers.Conv2D(12, 3, groups=12)(y)
    return keras.Model(x, layers.Dense(4)(layers.Flatten()(y)))


def transposed():
    (x,) = image()
    y = layers.Conv2DTranspose(6, 3, strides=2)(x)
    y = layers.Conv2D(4, 3, dilation_rate=2)(layers.ZeroPadding2D()(y))
    y = layers.Cropping2D()(layers.UpSampling2D()(y))
    return keras.Model(x, layers.Conv2D(2, 1)(y))


def shared_and_nested():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(6, 1)],
        name="inner",
    )
    (x,) = image()
    y = layers.Conv2D(4, 1)(x)
    y, z = inner(y), inner(layers.Conv2D(4, 1)(y))
    y = layers.Flatten()(layers.Average()([y, z]))
    return keras.Model(x, {"a": layers.Dense(4)(y), "b": layers.Dense(2)(y)})


def attention():
    x = keras.Input((6, 8))
    y = layers.LayerNormalization()(x)
    y = layers.Add()([x, layers.MultiHeadAttention(4, 3, value_dim=5)(y, y)])
    z = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(y))
    y = layers.Add()([y, layers.Dense(8)(z)])
    y = layers.GroupQueryAttention(4, 4, 2)(y, y)
    return keras.Model(x, layers.Dense(3)(y))


def einsum_and_embedding():
    x = keras.Input((5,), dtype="int32")
    y = layers.Embedding(7, 8)(x)
    y = layers.EinsumDense("abc,cd->abd", output_shape=(None, 8), bias_axes="d")(y) + y
    y = layers.TimeDistributed(layers.Dense(6, activation="tanh"))(y)
    y = layers.Conv1D(6, 2, padding="causal")(y)
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))


NETS = [
    chain,
    residual,
    squeeze_and_excite,
    concatenated,
    added_in_parts,
    depthwise,
    grouped,
    transposed,
    shared_and_nested,
    attention,
    einsum_and_embedding,
]


def made(net):
    """The network with weights, biases and statistics that are all different."""
    keras.utils.clear_session()  # layers' names begin anew
    keras.utils.set_random_seed(1)
    model, random = net(), np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.uniform(0.2, 1.0, variable.shape) * random.choice([-1, 1]))
        if variable.path.endswith("variance"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return model


def zero_half(model, part=0.5):
    """Sets the first half of the channels of each group to zero; returns sizes by kernel."""
    channels, sizes = channels_of(model), {}
    for kind in ("filter", "head"):
        for group in groups_of(model, channels, kind)[0]:
            count = min(round(part * group.size), group.size - 1)
            sizes[group.name] = (group.size, count)
            for member in group.members:
                value = np.moveaxis(member.variable.numpy().copy(), member.axis, 0)
                value[(member.channels >= 0) & (member.channels < count)] = 0
                member.variable.assign(np.moveaxis(value, 0, member.axis))
    return sizes
