"""What was pruned is taken out, and the rest computes the same."""

import channel_nets
import keras
import numpy as np
import pytest
from channel_nets import made, zero_half
from keras import layers

from tfdist import model_compression as compression
from tfdist.model_compression.shrinking.check import largest_difference

# What is left of the kernels where half of each group goes.
SHAPES = {
    "chain": {"conv2d": (3, 3, 3, 4), "dense": (36, 6), "dense_1": (6, 4)},
    "residual": {
        "conv2d": (3, 3, 3, 4),
        "conv2d_1": (3, 3, 4, 6),
        "conv2d_2": (1, 1, 6, 4),
        "dense": (4, 4),
    },
    "squeeze_and_excite": {"conv2d": (3, 3, 3, 4), "conv2d_1": (1, 1, 4, 3)},
    "concatenated": {"conv2d_2": (1, 1, 8, 3), "dense": (11, 4)},
    "added_in_parts": {"conv2d": (3, 3, 3, 2), "conv2d_1": (3, 3, 3, 3), "conv2d_2": (1, 1, 3, 5)},
    "depthwise": {"depthwise_conv2d": (3, 3, 3, 2)},
    "grouped": {
        "conv2d": (1, 1, 3, 4),
        "conv2d_1": (3, 3, 1, 4),  # of each of 4 groups of 3 outputs two go, of 2 inputs one
        "conv2d_2": (3, 3, 1, 4),
    },
    "transposed": {"conv2d_transpose": (3, 3, 3, 3), "conv2d": (3, 3, 3, 2)},
    "shared_and_nested": {"dense": (108, 4), "dense_1": (108, 2)},
    "attention": {"dense": (8, 8), "dense_1": (8, 8)},
    "einsum_and_embedding": {"einsum_dense": (4, 4), "conv1d": (2, 3, 3)},
}


@pytest.mark.parametrize("net", channel_nets.NETS, ids=lambda net: net.__name__)
def test_the_rest_computes_the_same(net):
    model = made(net)
    zero_half(model)
    small = compression.shrink(model)
    assert largest_difference(model, small)[0] < 1e-10
    assert small.count_params() < 0.7 * model.count_params()
    for name, shape in SHAPES[net.__name__].items():
        assert small.get_layer(name).kernel.shape == shape, name
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]


def test_heads_are_fewer():
    model = made(channel_nets.attention)
    zero_half(model)
    small = compression.shrink(model)
    assert small.get_layer("multi_head_attention").num_heads == 2
    grouped = small.get_layer("grouped_query_attention")
    assert (grouped.num_query_heads, grouped.num_key_value_heads) == (2, 1)


@pytest.mark.parametrize("optimizer", ["Adam", "Adafactor", "Lion", "Muon"])
def test_training_goes_on_from_the_same_state(optimizer):
    model = made(channel_nets.residual)
    arguments = {} if optimizer == "Adafactor" else {"use_ema": True, "ema_momentum": 0.9}
    model.compile(getattr(keras.optimizers, optimizer)(0.01, **arguments), "mse", metrics=["mae"])
    random = np.random.default_rng(0)
    x, y = random.normal(size=(24, 8, 8, 3)), random.normal(size=(24, 4))
    half = compression.Constant(final=0.5, begin=2)
    pruning = compression.prune(model, "l2", "filter", schedule=half)
    model.fit(x, y, 8, verbose=0, callbacks=[pruning])
    small = compression.shrink(model)
    for old, new in zip(model.optimizer.variables, small.optimizer.variables):
        assert old.name == new.name and old.shape.rank == new.shape.rank
    assert int(small.optimizer.iterations) == 3
    losses = [m.fit(x, y, 8, verbose=0, shuffle=False).history for m in (model, small)]
    if optimizer in ("Adam", "Lion"):  # the others look at whole matrices
        assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-9)
        assert losses[0]["mae"] == pytest.approx(losses[1]["mae"], rel=1e-9)


def test_flags_and_compilation_are_kept():
    model = made(channel_nets.chain)
    model.get_layer("dense_1").trainable = False
    model.compile(
        "sgd", keras.losses.Huber(), metrics=[keras.metrics.MeanSquaredError()], jit_compile=False
    )
    zero_half(model)
    small = compression.shrink(model)
    assert not small.get_layer("dense_1").trainable
    assert isinstance(small.loss, keras.losses.Huber) and not small.jit_compile
    assert small.metrics[-1] is not model.metrics[-1]


def test_a_model_that_was_not_compiled_is_not():
    model = made(channel_nets.chain)
    zero_half(model)
    assert not compression.shrink(model).compiled


def test_nothing_to_take_out():
    with pytest.raises(ValueError, match="Nothing of 'sequential' can be taken out: no filter"):
        compression.shrink(made(channel_nets.chain))


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Own()
    model(np.zeros((1, 3)))
    with pytest.raises(TypeError, match="is a Own, a subclassed model: its `call`"):
        compression.shrink(model)


def test_a_layer_that_computes_with_its_own_size_is_found():
    class Scaled(layers.Layer):
        def call(self, x):
            return x / x.shape[-1]

    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(Scaled()(layers.Dense(8)(x))))
    model = keras.Model(x, model(x))
    zero_half(model)
    with pytest.raises(ValueError, match="computes something else: outputs differ by"):
        compression.shrink(model)
