"""MACs against formulas by hand, and against what the papers say of their networks."""

import collections

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfdist import model_compression as compression


def macs(model):
    """By layer, of one example."""
    counted = collections.Counter()
    for layer in compression.report(model).before.layers:
        if layer.macs:
            counted[layer.name] += layer.macs
    return dict(counted)


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Dense(5), (7,), 7 * 5),
        (layers.Dense(5), (3, 7), 3 * 7 * 5),
        (layers.EinsumDense("abc,cde->abde", (None, 2, 4)), (3, 7), 3 * 7 * 2 * 4),
        (layers.EinsumDense("...x,xy->...y", 4), (3, 7), 3 * 7 * 4),
        (layers.Conv1D(6, 3), (10, 4), 8 * 3 * 4 * 6),
        (layers.Conv2D(6, 3, strides=2, padding="same"), (8, 8, 4), 16 * 9 * 4 * 6),
        (layers.Conv2D(6, 3, groups=2), (8, 8, 4), 36 * 9 * 2 * 6),
        (layers.Conv2D(6, 3, dilation_rate=2), (8, 8, 4), 16 * 9 * 4 * 6),
        (layers.Conv3D(2, 2), (4, 4, 4, 3), 27 * 8 * 3 * 2),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), 36 * 9 * 4 * 2),
        (layers.SeparableConv2D(6, 3, padding="same"), (8, 8, 4), 64 * (9 * 4 + 4 * 6)),
        (layers.Conv2DTranspose(5, 2, strides=2), (6, 6, 4), 36 * 4 * 4 * 5),
        (layers.Conv3DTranspose(2, 2), (3, 3, 3, 2), 27 * 8 * 2 * 2),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_layer(layer, shape, expected):
    assert sum(macs(sequential(shape, layer)).values()) == expected


def test_normalizations_embeddings_and_sums_take_none():
    stack = (layers.Embedding(9, 4), layers.BatchNormalization(), layers.LayerNormalization())
    assert macs(sequential((5,), *stack)) == {}


@pytest.mark.parametrize("gates, cell", [(1, "SimpleRNN"), (4, "LSTM"), (3, "GRU")])
def test_a_loop_counts_as_often_as_it_runs(gates, cell):
    layer = getattr(layers, cell)(8, name="recurrent")
    (count,) = macs(sequential((10, 4), layer)).values()
    assert count == 10 * gates * (4 * 8 + 8 * 8)


def test_the_scores_of_an_attention_are_its_own():
    inputs = keras.Input((6, 8))
    outputs = layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    found = macs(keras.Model(inputs, layers.Dense(3, name="last")(outputs)))
    projections = dict.fromkeys(["query", "key", "value", "attention_output"], 6 * 8 * 8)
    expected = {
        "attention": 2 * 2 * 6 * 6 * 4,
        **{f"attention/{name}": count for name, count in projections.items()},
        "last": 6 * 8 * 3,
    }
    assert list(found.items()) == list(expected.items())  # in the order of a prediction


class Own(keras.Model):
    """Subclassed: a nested model, a weight of its own behind a reshape, and a branch."""

    def __init__(self):
        super().__init__(name="own")
        self.inner = keras.Sequential([layers.Dense(6, name="a"), layers.Dense(4, name="b")])
        self.inner.name = "inner"
        self.flat = self.add_weight(shape=(8,), name="flat")

    def call(self, x):
        found = keras.ops.matmul(self.inner(x), keras.ops.reshape(self.flat, (4, 2)))
        keras.ops.matmul(found, keras.ops.ones((2, 99)))  # which nobody needs
        return found


def test_nested_and_subclassed_models():
    model = Own()
    model(np.zeros((3, 5)))
    found = macs(model)
    assert found.pop("own") == 4 * 2
    assert [name.split("/")[-1] for name in found] == ["a", "b"]
    assert [*found.values()] == [5 * 6, 6 * 4]


def test_a_shared_layer_counts_at_each_call():
    inputs, shared = keras.Input((4,)), layers.Dense(4, name="shared")
    assert macs(keras.Model(inputs, shared(shared(inputs)))) == {"shared": 2 * 16}


def test_a_batch_that_the_model_fixes_is_divided():
    model = keras.Sequential([keras.Input(batch_shape=(8, 4)), layers.Dense(3, name="dense")])
    assert macs(model) == {"dense": 12}


class Sometimes(layers.Layer):
    def call(self, x):
        kernel = tf.ones((4, 4), x.dtype)
        x = tf.cond(tf.reduce_sum(x) > 0, lambda: x @ kernel, lambda: x)
        least = tf.reduce_sum(x)
        (x,) = tf.while_loop(lambda x: tf.reduce_sum(x) < least, lambda x: (x @ kernel,), (x,))
        return tf.ensure_shape(x, (None, 4))


def test_what_cannot_be_known_is_said():
    report = compression.report(sequential((4,), Sometimes(name="own"), layers.Dense(4))).before
    assert report.total("macs") == 16
    assert report.notes == [
        "own: MACs in a branch are not counted.",
        "own: MACs in a loop of unknown length are not counted.",
    ]


def test_open_axes_have_a_length_that_is_said():
    report = compression.report(sequential((None, 4), layers.Dense(3))).before
    assert report.total("macs") == 64 * 4 * 3
    assert report.notes == ["MACs and latency are those of inputs whose open axes are 64 long."]


def test_macs_that_meet_non_zeros():
    model = sequential((8,), layers.Dense(4, name="half"), layers.Dense(4, name="full"))
    kernel = model.get_layer("half").kernel
    kernel.assign(np.arange(32).reshape(8, 4) % 2)
    report = compression.report(model).before
    assert [layer.nonzero_macs for layer in report.layers] == [16, 16]
    assert [layer.macs for layer in report.layers] == [32, 16]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, millions",
    [
        ("MobileNet", 569),  # 1704.04861, table 4
        ("MobileNetV2", 300),  # 1801.04381, table 4
        ("ResNet50", 3_860),  # torchvision's own count of its v1, stride in the first 1x1
        ("EfficientNetB0", 390),  # 1905.11946, table 2
        ("VGG16", 15_470),
    ],
)
def test_the_papers_networks(name, millions):
    model = getattr(keras.applications, name)(weights=None)
    assert compression.report(model).before.total("macs") / 1e6 == pytest.approx(millions, rel=0.02)
