"""Slimming: the penalty of a Keras regularizer, and scores by NumPy."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers
from pruning_cases import SCOPES, X, Y

import tfdist
from tfdist import model_compression as compression

STRENGTH = 0.25  # exact in float32, where Keras keeps it


def build(where="no strategy", optimizer="SGD", arguments=None, penalty=0.0, **compiled):
    """Two batch normalizations on the channels of "first", one on those of "inner"."""
    keras.utils.set_random_seed(1)
    strategy = SCOPES[where]()
    l1 = keras.regularizers.L1(penalty) if penalty else None

    def normalization(name):
        scale = keras.initializers.RandomUniform(-1.0, 1.0, seed=len(name))
        return layers.BatchNormalization(
            name=name, synchronized=True, gamma_initializer=scale, gamma_regularizer=l1
        )

    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        x = keras.Input((8, 8, 3))
        y = layers.Conv2D(8, 3, padding="same", name="first")(x)
        z = layers.ReLU()(normalization("one")(y))
        z = layers.Conv2D(6, 3, padding="same", use_bias=False, name="inner")(z)
        z = layers.ReLU()(normalization("three")(z))
        y = layers.Add()([y, layers.Conv2D(8, 1, name="added")(z)])
        y = layers.GlobalAveragePooling2D()(normalization("sixth")(y))
        y = layers.Dense(5, "relu", name="unscaled")(y)
        model = keras.Model(x, layers.Dense(4, name="last")(y))
        made = getattr(keras.optimizers, optimizer)(0.05, **(arguments or {}))
        model.compile(made, "mse", **compiled)
    return model


def fit(model, *callbacks, epochs=1):
    return model.fit(X, Y, 8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def slimmed(schedule=None, epochs=1, **arguments):
    model = build(**arguments)
    schedule = schedule or compression.Constant(final=0.5, begin=1000)
    criterion = compression.Slimming(STRENGTH)
    pruning = compression.prune(model, criterion, "filter", schedule)
    fit(model, pruning, epochs=epochs)
    return model, pruning


ACCUMULATION = {"momentum": 0.9, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"arguments": ACCUMULATION}, id="accumulation", marks=pytest.mark.slow),
        pytest.param({}, id="plain", marks=pytest.mark.slow),
        pytest.param({"arguments": {"clipnorm": 0.1}}, id="clipping", marks=pytest.mark.slow),
        pytest.param({"optimizer": "Adam", "jit_compile": True}, marks=pytest.mark.slow),
        pytest.param({"run_eagerly": True}, marks=pytest.mark.slow),
    ],
)
def test_scales_are_trained_as_with_a_regularizer(arguments):
    expected = build(penalty=STRENGTH, **arguments)
    fit(expected)
    for where in SCOPES:
        model, _ = slimmed(where=where, **arguments)
        for one, other in zip(model.get_weights(), expected.get_weights()):
            np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.parametrize(
    "where", ["no strategy", pytest.param("two replicas", marks=pytest.mark.slow)]
)
def test_the_penalty_has_its_size_where_the_loss_is_scaled(where):
    before = keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        arguments = {"where": where, "arguments": {"momentum": 0.9}}
        expected = build(penalty=STRENGTH, **arguments)
        fit(expected)
        model, _ = slimmed(**arguments)
    finally:
        keras.config.set_floatx(before)
        keras.mixed_precision.set_dtype_policy(before)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    for name in ("one", "three", "sixth"):
        one, other = (m.get_layer(name).gamma.numpy() for m in (model, expected))
        np.testing.assert_allclose(one, other, atol=2e-3)  # a step moves them by 0.0125


@pytest.mark.slow
def test_local_steps_of_each_replica_have_the_penalty():
    found = []
    for callbacks in ([], [tfdist.callbacks.LocalSGD(period=1)]):
        model = build("two replicas")
        schedule = compression.Constant(final=0.5, begin=5)
        pruning = compression.prune(model, compression.Slimming(STRENGTH), "filter", schedule)
        fit(model, pruning, *callbacks)
        found.append(model.get_weights())
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-9)


def test_what_goes_is_what_numpy_says():
    model = build()
    one, three, sixth = (np.abs(model.get_layer(n).gamma) for n in ("one", "three", "sixth"))
    scores = [(one + sixth) / 2, three]
    schedule = compression.Constant(final=0.5)
    pruning = compression.prune(model, "slimming", "filter", schedule, allocation="global")
    pruning.apply()
    gone = [model.get_layer(name).kernel.numpy() for name in ("first", "inner")]
    gone = np.concatenate([np.all(kernel == 0, axis=(0, 1, 2)) for kernel in gone])
    expected = np.sort(np.argsort(np.concatenate(scores))[:7])
    np.testing.assert_array_equal(np.flatnonzero(gone), expected)
    reasons = {s.name: s.reason for s in pruning.report().skipped}
    assert reasons["unscaled/kernel"].startswith("no batch normalization that is trained scales")
    small = compression.shrink(model)
    assert small.get_layer("inner").kernel.shape[-1] == 6 - sum(gone[8:])


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({}, r'Slimming: it looks at scales .* expected structure="filter"'),
        ({"structure": "head"}, r'Slimming: it looks at scales .* expected structure="filter"'),
    ],
)
def test_what_cannot_be(arguments, said):
    with pytest.raises(ValueError, match=said):
        compression.prune(build(), "slimming", **arguments)
    with pytest.raises(ValueError, match="strength=-1: expected a number of at least 0"):
        compression.Slimming(-1)
