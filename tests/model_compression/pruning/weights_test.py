"""Which weights of which layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfdist.model_compression.pruning.weights import weights_of


def network():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(x)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Conv2DTranspose(5, 2, name="transposed")(x)
    x = layers.Reshape((-1, 5))(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LSTM(4, name="recurrent")(x)
    return keras.Model(inputs, layers.Dense(2, name="last")(x))


def test_kernels_and_their_axes():
    found, skipped = weights_of(network())
    matrices = {weight.name: weight.matrix for weight in found}
    expected = {
        "first/kernel": (27, 4),
        "depthwise/kernel": (9, 8),
        "separable/depthwise_kernel": (9, 8),
        "separable/pointwise_kernel": (8, 6),
        "transposed/kernel": (2 * 2 * 6, 5),
        "attention/query/kernel": (5, 6),
        "attention/key/kernel": (5, 6),
        "attention/value/kernel": (5, 6),
        "attention/attention_output/kernel": (6, 5),
        "recurrent/lstm_cell/kernel": (5, 16),
        "recurrent/lstm_cell/recurrent_kernel": (4, 16),
        "last/kernel": (4, 2),
    }
    assert matrices == expected
    assert [one.reason for one in skipped] == ["no kernel that is known of a BatchNormalization"]


def test_a_matrix_and_back():
    for weight in weights_of(network())[0]:
        tensor = tf.reshape(tf.range(weight.size), weight.shape)
        back = weight.from_matrix(weight.as_matrix(tensor))
        np.testing.assert_array_equal(back, tensor)


def test_an_output_of_the_matrix_is_an_output_of_the_layer():
    layer = layers.Conv2DTranspose(5, 2)
    model = keras.Sequential([keras.Input((4, 4, 6)), layer])
    ((weight,), _) = weights_of(model)
    matrix = np.ones(weight.matrix, "float32")
    matrix[:, 3] = 0.0
    layer.kernel.assign(weight.from_matrix(tf.constant(matrix)))
    outputs = np.array(model(np.ones((1, 4, 4, 6), "float32")))
    assert np.all(outputs[..., 3] == 0) and np.all(outputs[..., [0, 1, 2, 4]] > 0)


def test_what_is_skipped_says_why():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(7, 8, name="words"),
            layers.Flatten(),
            layers.Dense(3, name="frozen", trainable=False),
            layers.Dense(3, name="left_out"),
            layers.Dense(3, name="lora"),
            layers.Dense(3, name="quantized"),
            layers.Dense(1, name="last"),
        ]
    )
    model.get_layer("lora").enable_lora(1)
    model.get_layer("quantized").quantize("int8")
    found, skipped = weights_of(model, filters=lambda layer: layer.name != "left_out")
    assert [weight.layer.name for weight in found] == ["last"]
    reasons = {one.name.split("/")[-1]: one.reason for one in skipped}
    assert "row serves its own word" in reasons["words"]
    assert reasons["frozen"] == "it is not trainable"
    assert reasons["left_out"] == "filters leave it out"
    assert "LoRA" in reasons["lora"] and "quantized (int8)" in reasons["quantized"]


@pytest.mark.parametrize("filters", ["fir|las", ["^first$", "^last$"]])
def test_filters(filters):
    found, _ = weights_of(network(), filters)
    assert [weight.layer.name for weight in found] == ["first", "last"]


def test_nested_shared_and_subclassed():
    shared = layers.Dense(3)
    inner = keras.Sequential([keras.Input((3,)), shared, layers.Dense(3)])

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [inner, {"head": layers.Dense(1)}]

        def call(self, x):
            return self.parts[1]["head"](shared(self.parts[0](x)))

    model = Own()
    with pytest.raises(ValueError, match="has no weights yet"):
        weights_of(keras.Sequential([layers.Dense(2)]))
    model(np.ones((2, 3), "float32"))
    found, _ = weights_of(model)
    assert len(found) == 3


def test_filters_of_another_kind():
    with pytest.raises(ValueError, match="filters=3: expected a regular expression"):
        weights_of(network(), filters=3)
