"""Multiplications of a prediction of one example: those of the layers that have kernels."""

import math

import keras


def macs(model):
    """How many a functional model needs in convolutions and Dense layers."""
    return sum(map(_of_layer, model.layers))


def _of_layer(layer):
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        # Each output channel reads one input channel.
        return math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size)
    if isinstance(layer, keras.layers.Conv2D):
        channels = layer.input.shape[-1] // layer.groups
        return math.prod(layer.output.shape[1:]) * math.prod(layer.kernel_size) * channels
    if isinstance(layer, keras.layers.Dense):
        return math.prod(layer.output.shape[1:]) * layer.input.shape[-1]
    if isinstance(layer, keras.layers.MultiHeadAttention):
        tokens, width = layer.output.shape[1:]
        inner = layer.num_heads * layer.key_dim
        # Queries, keys, values and outputs; scores and what they weigh.
        return tokens * 4 * width * inner + 2 * tokens**2 * inner
    return 0
