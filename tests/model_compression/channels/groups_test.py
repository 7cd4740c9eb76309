"""Which channels can go together, and why others stay."""

import channel_nets
import keras
import numpy as np
import pytest
from channel_nets import made
from keras import layers

from tfdist.model_compression.channels.channels import channels_of
from tfdist.model_compression.channels.groups import groups_of


def found(model, kind="filter", filters=None):
    groups, skipped = groups_of(model, channels_of(model), kind, filters)
    sizes = {group.name.removesuffix("/kernel"): group.size for group in groups}
    return sizes, {one.name.removesuffix("/kernel"): one.reason for one in skipped}


@pytest.mark.parametrize(
    "net, sizes",
    [
        (channel_nets.residual, {"conv2d": 8, "conv2d_1": 12}),  # conv2d_2 is added to conv2d
        (channel_nets.squeeze_and_excite, {"conv2d": 8, "conv2d_1": 6}),
        (channel_nets.concatenated, {"conv2d": 4, "conv2d_1": 6, "conv2d_2": 6}),
        (channel_nets.added_in_parts, {"conv2d": 4, "conv2d_1": 6}),  # each with conv2d_2
        (channel_nets.grouped, {"conv2d": 2, "conv2d_1": 3}),  # one of each of 4 groups
        (
            channel_nets.shared_and_nested,
            {"conv2d_2": 4, "inner/conv2d": 8, "inner/conv2d_1": 6},
        ),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_hangs_together(net, sizes):
    groups, skipped = found(made(net))
    assert groups == sizes
    assert set(skipped.values()) <= {"an output of the model"}


def test_heads():
    groups, skipped = found(made(channel_nets.attention), "head")
    assert groups == {"multi_head_attention/value": 4, "grouped_query_attention/value": 2}
    assert not skipped


def test_all_that_belongs_to_a_channel():
    model = made(channel_nets.residual)
    first = groups_of(model, channels_of(model), "filter")[0][0]
    members = {(one.variable.path, one.axis) for one in first.members}
    assert members == {
        ("conv2d/kernel", 3),
        ("conv2d/bias", 0),
        ("conv2d_1/kernel", 2),
        ("conv2d_2/kernel", 3),
        ("conv2d_2/bias", 0),
        ("dense/kernel", 0),
    }


def test_places_behind_flatten():
    model = made(channel_nets.chain)
    first = groups_of(model, channels_of(model), "filter")[0][0]
    (dense,) = (one for one in first.members if one.variable.path.endswith("dense/kernel"))
    np.testing.assert_array_equal(dense.channels, np.tile(np.arange(8), 9))


def of(*more, shape=(8,), units=8):
    x = keras.Input(shape)
    y = layers.Dense(units, name="first")(x)
    for layer in more:
        y = layer(y)
    return keras.Model(x, layers.Dense(2, name="last")(y))


@pytest.mark.parametrize(
    "more, reason",
    [
        ([layers.LayerNormalization], "layer_normalization computes the mean over all of them"),
        ([layers.Softmax], "softmax takes the softmax over all of them"),
        (
            [lambda: layers.Lambda(lambda y: y * np.arange(8.0))],
            "lambda joins it with something that has no such channels",
        ),
        ([lambda: layers.Reshape((4, 2))], "reshape spreads them over two axes"),
        (
            [lambda: layers.Lambda(lambda y: keras.ops.cumsum(y, 1))],
            "lambda computes a Cumsum of it",
        ),
    ],
    ids=["normalization", "softmax", "constant", "reshape", "unknown"],
)
def test_why_channels_stay(more, reason):
    keras.utils.clear_session()
    groups, skipped = found(of(*(make() for make in more)))
    assert reason in skipped["first"] and "first" not in groups


def test_of_a_slice_the_others_can_go():
    keras.utils.clear_session()
    groups, _ = found(of(layers.Lambda(lambda y: y[:, 1:2])))
    assert groups == {"first": 7}  # the one that is read stays


def test_a_recurrent_layer_is_not_followed():
    keras.utils.clear_session()
    x = keras.Input((5, 3))
    y = layers.LSTM(4)(layers.Dense(6, name="first")(x))
    groups, skipped = found(keras.Model(x, layers.Dense(2)(y)))
    assert not groups and "of it" in skipped["first"]


def test_filters_leave_out_what_makes_the_same_channels():
    model = made(channel_nets.residual)
    groups, skipped = found(model, filters=lambda layer: layer.name != "conv2d_2")
    assert set(groups) == {"conv2d_1"}
    assert skipped["conv2d"] == "filters leave conv2d_2 out"


def test_a_layer_that_is_not_trainable_stays():
    model = made(channel_nets.chain)
    model.get_layer("conv2d").trainable = False
    groups, skipped = found(model)
    assert set(groups) == {"sequential/dense"}
    assert skipped["sequential/conv2d"] == "conv2d is not trainable"


def test_a_subclassed_model_is_followed_too():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.first, self.last = layers.Dense(6, name="first"), layers.Dense(2, name="last")

        def call(self, x):
            return self.last(keras.ops.relu(self.first(x)))

    model = Own()
    model(np.zeros((1, 3)))
    groups, skipped = found(model)
    assert groups == {"own/first": 6} and skipped["own/last"] == "an output of the model"
