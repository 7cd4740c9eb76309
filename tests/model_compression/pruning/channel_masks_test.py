"""Whole filters and heads while `fit` trains: exact behind each step, alike on replicas."""

import contextlib

import channel_nets
import keras
import numpy as np
import pytest
from channel_nets import made
from keras import layers
from pruning_cases import SCOPES, X, Y

from tfdist import model_compression as compression


def build(where="no strategy", optimizer=("Adam", {}), **compiled):
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    name, arguments = optimizer
    strategy = SCOPES[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        x = keras.Input((8, 8, 3))
        y = layers.Conv2D(8, 3, padding="same", name="first")(x)
        z = layers.BatchNormalization(synchronized=True, name="normalization")(y)
        z = layers.Conv2D(10, 3, padding="same", activation="sigmoid", name="inner")(z)
        y = layers.Add()([y, layers.Conv2D(8, 1, name="added")(z)])
        y = layers.GlobalAveragePooling2D()(y)
        model = keras.Model(x, layers.Dense(4, name="last")(y))
        model.compile(getattr(keras.optimizers, name)(0.01, **arguments), "mse", **compiled)
    return model


def fit(model, *callbacks, epochs=2):
    return model.fit(X, Y, 8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


def filters_gone(model):
    """Of "first" (with "added") and "inner": which filters are zero with all that is theirs."""
    kernel = {name: model.get_layer(name).kernel.numpy() for name in ("first", "inner", "added")}
    bias = {name: model.get_layer(name).bias.numpy() for name in kernel}
    last = model.get_layer("last").kernel.numpy()
    normalization = model.get_layer("normalization")
    first = [
        np.all(kernel["first"] == 0, axis=(0, 1, 2)),
        np.all(kernel["added"] == 0, axis=(0, 1, 2)),
        np.all(kernel["inner"] == 0, axis=(0, 1, 3)),
        np.all(last == 0, axis=1),
        *(b == 0 for b in (bias["first"], bias["added"])),
        *(v.numpy() == 0 for v in (normalization.gamma, normalization.beta)),
    ]
    inner = [
        np.all(kernel["inner"] == 0, axis=(0, 1, 2)),
        np.all(kernel["added"] == 0, axis=(0, 1, 3)),
        bias["inner"] == 0,
    ]
    return np.all(first, axis=0), np.all(inner, axis=0)


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(tuple(int(gone.sum()) for gone in filters_gone(self.model)))


def test_the_number_of_filters_is_exact_behind_each_step():
    model, watch = build(), Watch()
    schedule = compression.Cubic(final=0.6, begin=2, end=10, frequency=3)
    fit(model, compression.prune(model, "l1", "filter", schedule=schedule), watch)
    due, sparsity = dict(schedule.updates()), 0.0
    for step, seen in enumerate(watch.seen, start=1):
        sparsity = due.get(step, sparsity)
        assert seen == (round(8 * sparsity), round(10 * sparsity)), step


@pytest.mark.parametrize("criterion, power", [("l1", 1), ("l2", 2)])
def test_what_goes_is_what_numpy_says(criterion, power):
    model = build()
    kernels = {n: model.get_layer(n).kernel.numpy() for n in ("first", "inner", "added", "last")}
    total = {n: np.abs(kernel) ** power for n, kernel in kernels.items()}
    first = (
        total["first"].sum((0, 1, 2))
        + total["added"].sum((0, 1, 2))
        + total["inner"].sum((0, 1, 3))
        + total["last"].sum(1)
    )
    inner = total["inner"].sum((0, 1, 2)) + total["added"].sum((0, 1, 3))
    half = compression.Constant(final=0.5)

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            gone = filters_gone(self.model)
            np.testing.assert_array_equal(np.flatnonzero(gone[0]), np.sort(np.argsort(first)[:4]))
            np.testing.assert_array_equal(np.flatnonzero(gone[1]), np.sort(np.argsort(inner)[:5]))

    fit(model, compression.prune(model, criterion, "filter", schedule=half), Look(), epochs=1)


def test_all_groups_compete_and_one_channel_of_each_stays():
    model = build()
    model.get_layer("inner").kernel.assign(0.01 * model.get_layer("inner").kernel)
    model.get_layer("added").kernel.assign(0.01 * model.get_layer("added").kernel)
    schedule = compression.Constant(final=0.8)
    pruning = compression.prune(model, "l2", "filter", schedule, allocation="global")
    fit(model, pruning, epochs=1)
    gone = [int(one.sum()) for one in filters_gone(model)]
    assert sum(gone) == round(0.8 * 18) and gone[1] == 9


EMA = {"use_ema": True, "ema_momentum": 0.9}
SLOW = [pytest.mark.slow]


@pytest.mark.parametrize(
    "compiled",
    [
        pytest.param({"optimizer": ("AdamW", EMA), "steps_per_execution": 3}, id="EMA"),
        pytest.param({"jit_compile": True}, id="jit_compile", marks=SLOW),
        pytest.param(
            {"optimizer": ("SGD", {"momentum": 0.9, "gradient_accumulation_steps": 2})},
            id="accumulation",
            marks=SLOW,
        ),
    ],
)
def test_replicas_train_the_same_pruned_model_as_one_process(compiled):
    found = {}
    for where in SCOPES:
        model = build(where, **compiled)
        schedule = compression.Cubic(final=0.5, begin=1, end=9, frequency=2)
        history = fit(model, compression.prune(model, "l2", "filter", schedule))
        small = compression.shrink(model)
        assert small.get_layer("inner").kernel.shape == (3, 3, 4, 5)
        more = fit(small, epochs=1)
        found[where] = model.get_weights() + small.get_weights(), [history, more]
    expected, histories = found.pop("no strategy")
    for weights, others in found.values():
        for one, other in zip(others, histories):
            np.testing.assert_allclose(one.history["loss"], other.history["loss"], rtol=1e-9)
        for one, other in zip(weights, expected):
            np.testing.assert_array_equal(one == 0, other == 0)
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_heads_go_as_a_whole():
    model = made(channel_nets.attention)
    model.compile("adam", "mse")
    random = np.random.default_rng(0)
    x, y = random.normal(size=(16, 6, 8)), random.normal(size=(16, 6, 3))
    half = compression.Constant(final=0.5, begin=1)
    pruning = compression.prune(model, "l2", "head", schedule=half)
    model.fit(x, y, 8, verbose=0, callbacks=[pruning])
    assert [(one.channels, one.zeros) for one in pruning.report().pruned] == [(4, 2), (2, 1)]
    small = compression.shrink(model)
    assert small.get_layer("multi_head_attention").num_heads == 2


def test_the_report_says_what_goes_with_it():
    model = build()
    pruning = compression.prune(model, "l2", "filter", compression.Constant(final=0.5))
    fit(model, pruning, epochs=1)
    first, inner = pruning.report().pruned
    assert (first.name, first.channels, first.zeros) == ("first/kernel", 8, 4)
    assert first.others == ["added/kernel"] and not inner.others
    text = str(pruning.report())
    assert "first/kernel" in text and "50.00%  with added/kernel" in text
    assert "last/kernel" in text and "skipped: an output of the model" in text


def test_a_loaded_model_has_its_masks_again(tmp_path):
    model = build()
    schedule = compression.Constant(final=0.5)
    fit(model, compression.prune(model, "l2", "filter", schedule), epochs=1)
    gone = filters_gone(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    pruning = compression.prune(loaded, "l2", "filter", compression.Constant(final=0.0))
    fit(loaded, pruning, epochs=1)
    assert [one.zeros for one in pruning.report().pruned] == [4, 5]
    for one, other in zip(filters_gone(loaded), gone):
        np.testing.assert_array_equal(one, other)


def test_what_a_configuration_cannot_say_is_skipped_at_once():
    @keras.saving.register_keras_serializable("tests")
    class Fixed(layers.Layer):
        def __init__(self, **more):
            super().__init__(**more)
            self.inner = layers.Dense(6, name="inner")

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    x = keras.Input((4,))
    y = layers.Dense(8, name="first")(x)
    y = layers.Dense(5, name="last")(Fixed(name="fixed")(y))
    model = keras.Model(x, y)
    pruning = compression.prune(model, "l2", "filter", compression.Constant(final=0.5))
    assert [one.name for one in pruning.report().pruned] == ["first/kernel"]
    (reason,) = (s.reason for s in pruning.report().skipped if "inner" in s.name)
    assert reason.startswith("without it, ") and "of shape (8, 6)" in reason


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"allocation": "lamp"}, 'LAMP is an allocation of single weights: expected "uniform"'),
        ({"structure": "head"}, "Nothing of 'functional' can be pruned: "),
    ],
)
def test_what_cannot_be(arguments, said):
    with pytest.raises(ValueError, match=said):
        compression.prune(build(), **{"criterion": "l2", "structure": "filter", **arguments})
