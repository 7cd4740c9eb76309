"""Group sparsity: one step by NumPy's formula, and replicas as one process."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers
from pruning_cases import SCOPES, X, Y

from tfdist import model_compression as compression

STRENGTH, ALPHA, RATE = 0.05, 3.0, 0.1


def build(where="no strategy", optimizer="SGD", penalty=0.0, **arguments):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    strategy = SCOPES[where]()
    l2 = keras.regularizers.L2(penalty) if penalty else None
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, activation="relu", name="first", kernel_regularizer=l2),
                layers.Conv2D(6, 3, name="second", kernel_regularizer=l2),
                layers.GlobalAveragePooling2D(),
                layers.Dense(4, name="last", kernel_regularizer=l2),
            ]
        )
        made = getattr(keras.optimizers, optimizer)(RATE, **arguments)
        model.compile(made, "mse")
    return model


def fit(model, *callbacks, **arguments):
    arguments = {"epochs": 1, "verbose": 0, "shuffle": False, **arguments}
    return model.fit(X, Y, 8, callbacks=list(callbacks), **arguments)


def pruning_of(model, alpha=ALPHA, begin=1000):
    criterion = compression.GroupSparsity(STRENGTH, alpha)
    schedule = compression.Constant(final=0.5, begin=begin)
    return compression.prune(model, criterion, "filter", schedule)


def kernels(model):
    return [model.get_layer(name).kernel.numpy() for name in ("first", "second", "last")]


def factors(size):
    return 2 ** (ALPHA * (size.max() - size) / (size.max() - size.min()))


def test_one_step_is_what_numpy_says():
    model, plain = build(), build()
    first, second, last = kernels(model)
    one = factors((first**2).sum((0, 1, 2)) + (second**2).sum((0, 1, 3)))
    two = factors((second**2).sum((0, 1, 2)) + (last**2).sum(1))
    added = [
        one * first,
        (one[:, None] + two) * second,
        two[:, None] * last,
    ]
    for trained, callbacks in ((model, [pruning_of(model)]), (plain, [])):
        trained.fit(X[:8], Y[:8], verbose=0, callbacks=callbacks)
    for found, expected, penalty in zip(kernels(model), kernels(plain), added):
        np.testing.assert_allclose(found, expected - RATE * STRENGTH * penalty, atol=1e-12)
    for name in ("first", "second", "last"):
        biases = [m.get_layer(name).bias.numpy() for m in (model, plain)]
        np.testing.assert_allclose(*biases, atol=1e-12)


@pytest.mark.slow
def test_without_alpha_it_is_the_penalty_of_a_regularizer():
    # "first" and "last" belong to one group each, as which they have an L2 of half the strength.
    x, y = X[:8], Y[:8]
    found = []
    for where in SCOPES:
        model = build(where, gradient_accumulation_steps=2, momentum=0.9)
        fit(model, pruning_of(model, alpha=0))
        found.append(model.get_weights())
    for weights in found[1:]:
        for one, other in zip(weights, found[0]):
            np.testing.assert_allclose(one, other, atol=1e-9)
    model, regularized = build(), build(penalty=STRENGTH / 2)
    model.fit(x, y, verbose=0, callbacks=[pruning_of(model, alpha=0)])
    regularized.fit(x, y, verbose=0)
    for place in (0, 2):
        one, other = kernels(model)[place], kernels(regularized)[place]
        np.testing.assert_allclose(one, other, atol=1e-7)  # Keras keeps 0.025 in float32


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        pytest.param({"optimizer": "Adam"}, marks=pytest.mark.slow),
        pytest.param({"clipnorm": 0.1}, marks=pytest.mark.slow),
    ],
)
def test_replicas_train_what_one_process_does(arguments):
    found = {}
    for where in SCOPES:
        model = build(where, **arguments)
        fit(model, pruning_of(model, begin=4), epochs=2)
        found[where] = model.get_weights()
    expected = found.pop("no strategy")
    assert [int(np.all(w == 0, axis=(0, 1, 2)).sum()) for w in expected[0:3:2]] == [4, 3]
    for weights in found.values():
        for one, other in zip(weights, expected):
            np.testing.assert_array_equal(one == 0, other == 0)
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_groups_are_driven_to_zero():
    model, plain = build(), build()
    criterion = compression.GroupSparsity(0.3, 4)
    pruning = compression.prune(model, criterion, "filter", compression.Constant(0.5, begin=1000))
    fit(model, pruning, epochs=4)
    fit(plain, epochs=4)
    sizes = [np.sort((kernels(one)[0] ** 2).sum((0, 1, 2))) for one in (model, plain)]
    shares = [size[:4].sum() / size.sum() for size in sizes]
    assert shares[0] < 0.2 * shares[1]


@pytest.mark.parametrize("structure", ["weight", "block"])
def test_what_cannot_be(structure):
    with pytest.raises(ValueError, match=r'GroupSparsity: it compares the channels .*"filter"'):
        compression.prune(build(), "group_sparsity", structure)
    with pytest.raises(ValueError, match="alpha=None: expected a number of at least 0"):
        compression.GroupSparsity(alpha=None)
