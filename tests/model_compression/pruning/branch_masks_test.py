"""Whole residual branches while `fit` trains, and taken out behind it."""

import contextlib

import keras
import numpy as np
import pytest
import residual_nets
from keras import layers
from pruning_cases import SCOPES, X, Y

from tfdist import model_compression as compression
from tfdist.model_compression.channels.branches import branches_of
from tfdist.model_compression.shrinking.check import largest_difference

TEXT = np.random.default_rng(1).normal(size=(60, 6, 8))


def build(net=residual_nets.convolutions, where="no strategy", **compiled):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    strategy = SCOPES[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = net()
        model.compile(keras.optimizers.Adam(0.01), "mse", **compiled)
    return model


def fit(model, *callbacks, x=X, epochs=1):
    return model.fit(x, Y, 8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def of_branch(model, number):
    names = [f"{kind}{number}" for kind in ("a", "an", "b", "bn")]
    return [v.numpy() for name in names for v in model.get_layer(name).trainable_variables]


def gone(model):
    return [not any(v.any() for v in of_branch(model, number)) for number in range(3)]


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(sum(gone(self.model)))


def test_the_number_of_branches_is_exact_behind_each_step_and_shrink_takes_them_out():
    model, watch = build(), Watch()
    schedule = compression.Cubic(final=2 / 3, begin=2, end=6, frequency=2)
    pruning = compression.prune(model, "l2", "layer", schedule)
    fit(model, pruning, watch)
    due, part = dict(schedule.updates()), 0.0
    for step, seen in enumerate(watch.seen, start=1):
        part = due.get(step, part)
        assert seen == round(3 * part), step
    small = compression.shrink(model)
    (left,) = (number for number, masked in enumerate(gone(model)) if not masked)
    names = [layer.name for layer in small.layers]
    assert [name for name in names if name.startswith("sum")] == [f"sum{left}"]
    assert "conv" not in "".join(names) and f"b{left}" in names and len(names) < 13
    assert largest_difference(model, small)[0] < 1e-12
    for layer in (layer for layer in small.layers if layer.weights):
        for one, other in zip(layer.get_weights(), model.get_layer(layer.name).get_weights()):
            np.testing.assert_array_equal(one, other)
    # What is left trains on as it would have in the larger model.
    losses = [fit(one).history["loss"] for one in (model, small)]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert len(str(pruning.report()).splitlines()) == 5  # a head, three branches, and all


@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_what_goes_is_what_numpy_says(allocation):
    model = build()
    means = []
    for number in range(3):
        kernels = [model.get_layer(f"{kind}{number}").kernel.numpy() for kind in "ab"]
        kernels[0] *= [1.0, 0.3, 2.0][number]
        model.get_layer(f"a{number}").kernel.assign(kernels[0])
        total = sum(np.sum(kernel**2) for kernel in kernels)
        means.append(total / sum(kernel.size for kernel in kernels))
    schedule = compression.Constant(final=0.9)  # one stays
    pruning = compression.prune(model, "l2", "layer", schedule, allocation)
    pruning.apply()
    assert gone(model) == [number != np.argmax(means) for number in range(3)]
    report = pruning.report()
    assert [one.zeros for one in report.pruned] == [int(one) for one in gone(model)]
    assert [one.name for one in report.pruned] == ["sum0", "sum1", "sum2"]
    assert report.pruned[1].kernels == ["a1/kernel", "b1/kernel"]
    assert report.sparsity == 2 / 3 and "branches" in str(report)


@pytest.mark.slow  # what is followed in it is tested above
def test_attention_and_mlp_of_a_transformer():
    model = build(residual_nets.transformer)
    schedule = compression.Constant(final=0.5, begin=3)
    pruning = compression.prune(model, "magnitude", "layer", schedule)
    fit(model, pruning, x=TEXT)
    assert len(pruning.report().pruned) == 4 and pruning.report().sparsity == 0.5
    small = compression.shrink(model)
    assert small.count_params() < 0.75 * model.count_params()
    assert largest_difference(model, small)[0] < 1e-12


def test_filters_and_branches_of_one_model(tmp_path):
    model = build()
    third = compression.Constant(final=1 / 3)
    compression.prune(model, "l2", "layer", third).apply()
    (masked,) = (number for number, one in enumerate(gone(model)) if one)
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras", compile=False)
    # Masks are found again from the zeros.
    again = compression.prune(model, "l2", "layer", compression.Constant(final=0.0))
    again.apply()
    assert [one.zeros for one in again.report().pruned] == [int(one) for one in gone(model)]
    compression.prune(model, "l2", "filter", compression.Constant(final=0.5)).apply()
    small = compression.shrink(model)
    names = [layer.name for layer in small.layers]
    assert f"a{masked}" not in names and f"sum{masked}" not in names
    for number in {0, 1, 2} - {masked}:
        assert small.get_layer(f"a{number}").kernel.shape == (3, 3, 4, 3)
    assert largest_difference(model, small)[0] < 1e-10
    compression.prune(small, "l2", "layer", compression.Constant(final=0.5)).apply()
    smaller = compression.shrink(small)  # and again
    assert sum(layer.name.startswith("sum") for layer in smaller.layers) == 1


def test_models_inside_of_models():
    model = build(residual_nets.nested)
    names = [branch.name for branch in branches_of(model)[0]]
    assert sorted(names) == ["block/inner", "outer"]
    for part in ("block/inner", "outer"):
        model = build(residual_nets.nested)
        (branch,) = (one for one in branches_of(model)[0] if one.name == part)
        for _, variable in branch.weights:
            variable.assign(0 * variable)
        small = compression.shrink(model)
        assert largest_difference(model, small)[0] < 1e-12
        left = [layer.name for layer in small.layers]
        assert ("mlp" in left) == (part == "block/inner")


@pytest.mark.slow  # channel_masks_test has the same step on replicas
@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_replicas_train_the_same_pruned_model_as_one_process(criterion):
    found = {}
    for where in SCOPES if criterion == "l2" else ("no strategy", "two replicas"):
        model = build(where=where)
        schedule = compression.Constant(final=2 / 3, begin=3)
        fit(model, compression.prune(model, criterion, "layer", schedule))
        found[where] = model.get_weights() + compression.shrink(model).get_weights()
    expected = found.pop("no strategy")
    for weights in found.values():
        for one, other in zip(weights, expected, strict=True):
            np.testing.assert_array_equal(one == 0, other == 0)
            np.testing.assert_allclose(one, other, atol=1e-9)


def sums_of(make):
    keras.utils.clear_session()
    x = keras.Input((4,))
    y = layers.Dense(4, name="first")(x)
    model = keras.Model(x, make(y))
    found, skipped = branches_of(model)
    return [one.name for one in found], {one.name: one.reason for one in skipped}


def plus(y, z):
    return layers.Add(name="sum")([y, z])


def read_twice(y):
    z = layers.Dense(4, name="read")(y)
    return layers.Concatenate(name="reader")([plus(y, layers.Dense(4)(z)), z])


def shared(y):
    dense = layers.Dense(4, name="shared")
    return dense(plus(y, dense(y)))


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda y: plus(y, layers.Dense(4, "sigmoid", name="last")(y)), "last returns something"),
        (
            lambda y: plus(
                y,
                layers.BatchNormalization(scale=False, center=False, name="n")(layers.Dense(4)(y)),
            ),
            "n returns something else than 0",
        ),
        (lambda y: [layers.Dense(4)(y), plus(y, layers.Dense(4)(y))], None),
        (read_twice, "reader reads what read returns, too"),
        (shared, "shared is called in more than one place"),
        (lambda y: plus(y, layers.ReLU()(y)), "no kernel that is known in the branch"),
        (lambda y: plus(layers.Dense(4)(y), layers.Dense(4)(y)), "there is no shortcut"),
        (lambda y: layers.Add(name="sum")([y, layers.Dense(4)(y), y]), "it sums 3 tensors"),
        (lambda y: plus(y, layers.Dense(1)(y)), "what it sums is of two shapes"),
    ],
)
def test_what_is_a_branch(make, reason):
    found, skipped = sums_of(make)
    if reason is None:
        assert found == ["sum"] and not skipped
    else:
        assert not found and reason in skipped["sum"]


def test_of_branches_in_branches_the_inner_ones_go():
    def make(y):
        z = layers.Dense(4)(y)
        z = layers.Add(name="inner")([z, layers.Dense(4)(z)])
        return plus(y, z)

    found, skipped = sums_of(make)
    assert found == ["inner"] and "holds branches that can go" in skipped["sum"]


def test_what_cannot_be():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, x):
            return x + self.dense(x)

    model = Own()
    model(np.zeros((1, 4)))
    with pytest.raises(ValueError, match=r'structure="layer": .* a Own, a subclassed model'):
        compression.prune(model, "l2", "layer")
    with pytest.raises(ValueError, match=r"can be pruned: sum0: filters leave a0 out; sum1"):
        compression.prune(build(), "l2", "layer", filters="last")
    with pytest.raises(ValueError, match="channels that have gone do not come back"):
        compression.prune(build(), "movement", "layer")
