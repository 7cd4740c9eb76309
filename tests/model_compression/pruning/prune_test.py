"""Pruning while `fit` trains: exact at every step, alike everywhere, and nothing else changes."""

import contextlib
import json
import os
import subprocess
import sys

import devices
import keras
import numpy as np
import pytest
import slowness
from keras import layers

import tfdist
from tfdist import model_compression as compression

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 8, 8, 3)), RNG.normal(size=(60, 4))
SIZES = {"convolution": 3 * 3 * 3 * 8, "hidden": 288 * 16, "last": 16 * 4}
ACCUMULATION = {"momentum": 0.9, "gradient_accumulation_steps": 2}
EMA = {"use_ema": True, "ema_momentum": 0.9}
SCOPES = {
    "no strategy": lambda: None,
    "one replica": lambda: tfdist.MirroredStrategy(devices.PAIR[:1]),
    "two replicas": lambda: tfdist.MirroredStrategy(devices.PAIR),
}


@pytest.fixture(autouse=True)
def float64():
    """So that a mask does not hang on how a sum over replicas was rounded."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def build(where="no strategy", optimizer=("Adam", {}), **compiled):
    keras.utils.set_random_seed(1)
    name, arguments = optimizer
    strategy = SCOPES[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(8, 3, activation="relu", name="convolution"),
                layers.BatchNormalization(synchronized=True, name="normalization"),
                layers.Flatten(name="flat"),
                layers.Dense(16, activation="relu", name="hidden"),
                layers.Dense(4, name="last"),
            ],
            name="network",
        )
        model.compile(getattr(keras.optimizers, name)(0.01, **arguments), "mse", **compiled)
    return model


def kernels(model):
    return {name: model.get_layer(name).kernel.numpy() for name in SIZES}


def zeros(model):
    return {name: int(np.sum(kernel == 0)) for name, kernel in kernels(model).items()}


class Watch(keras.callbacks.Callback):
    """The zeros behind each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(zeros(self.model))


def fit(model, *callbacks, epochs=2):
    return model.fit(X, Y, 8, epochs=epochs, verbose=0, shuffle=False, callbacks=list(callbacks))


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_sparsity_is_exact_behind_each_step(where):
    model, watch = build(where), Watch()
    schedule = compression.Cubic(final=0.8, begin=2, end=10, frequency=3)
    fit(model, compression.prune(model, schedule=schedule), watch)
    due = dict(schedule.updates())
    sparsity = 0.0
    for step, seen in enumerate(watch.seen, start=1):
        sparsity = due.get(step, sparsity)
        assert seen == {name: round(sparsity * size) for name, size in SIZES.items()}, step
    assert sparsity == 0.8 and len(watch.seen) == 16


def test_what_goes_is_what_numpy_says():
    model = build()
    before = kernels(model)
    pruning = compression.prune(model, schedule=compression.Constant(final=0.6))

    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for name, kernel in kernels(self.model).items():
                expected = before[name].copy()
                order = np.argsort(np.abs(expected), axis=None, kind="stable")
                expected.flat[order[: round(0.6 * expected.size)]] = 0.0
                np.testing.assert_array_equal(kernel, expected)

    fit(model, pruning, Look(), epochs=1)


def test_all_tensors_compete():
    model = build()
    model.get_layer("last").kernel.assign(10 + model.get_layer("last").kernel)
    pruning = compression.prune(
        model, allocation="global", schedule=compression.Constant(final=0.9)
    )
    fit(model, pruning, epochs=1)
    assert sum(zeros(model).values()) == round(0.9 * sum(SIZES.values()))
    assert zeros(model)["last"] == 0


@pytest.mark.parametrize("allocation", ["erdos_renyi", "lamp"])
def test_other_allocations_have_the_whole_sparsity(allocation):
    model = build()
    pruning = compression.prune(
        model, allocation=allocation, schedule=compression.Constant(final=0.9)
    )
    fit(model, pruning, epochs=1)
    found = zeros(model)
    assert abs(sum(found.values()) - 0.9 * sum(SIZES.values())) <= 1.5  # one tensor, half a weight
    assert all(found[name] < size for name, size in SIZES.items())


def test_two_of_four():
    model = build()
    pruning = compression.prune(model, structure="2:4", filters="hidden|last")
    fit(model, pruning, epochs=1)
    for name in ("hidden", "last"):
        kernel = kernels(model)[name]
        groups = kernel.reshape(-1, 4, kernel.shape[-1])
        assert np.all(np.sum(groups != 0, axis=1) == 2)
    skipped = {one.name.split("/")[-1]: one.reason for one in pruning.report().skipped}
    assert skipped["convolution"] == "filters leave it out"


def test_a_kernel_that_cannot_have_the_structure_is_skipped_with_the_reason():
    pruning = compression.prune(build(), structure="2:4")
    reasons = {one.name: one.reason for one in pruning.report().skipped}
    (found,) = (reason for name, reason in reasons.items() if "convolution" in name)
    assert found == "27 inputs are no multiple of 4, as 2:4 needs"


SLOW = [pytest.mark.slow]  # each is a way to make a step, which the quick one goes, too


@pytest.mark.parametrize(
    "compiled",
    [
        pytest.param({"steps_per_execution": 3}, id="steps_per_execution"),
        pytest.param({"jit_compile": True}, id="jit_compile", marks=SLOW),
        pytest.param({"optimizer": ("SGD", ACCUMULATION)}, id="accumulation", marks=SLOW),
        pytest.param({"optimizer": ("AdamW", EMA)}, id="EMA", marks=SLOW),
    ],
)
def test_replicas_train_the_same_pruned_model_as_one_process(compiled):
    found = {}
    for where in SCOPES:
        model = build(where, **compiled)
        schedule = compression.Cubic(final=0.7, begin=1, end=9, frequency=2)
        history = fit(model, compression.prune(model, schedule=schedule))
        found[where] = model.get_weights(), history.history["loss"]
    expected, losses = found.pop("no strategy")
    for weights, loss in found.values():
        np.testing.assert_allclose(loss, losses, rtol=1e-9)
        for one, other in zip(weights, expected):
            np.testing.assert_array_equal(one == 0, other == 0)
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_random_is_another_choice_of_the_same_size_alike_on_replicas():
    masks = []
    for where in SCOPES:
        model = build(where)
        schedule = compression.Cubic(final=0.5, begin=1, end=5, frequency=2)
        watch = Watch()
        fit(model, compression.prune(model, criterion="random", schedule=schedule), watch)
        masks.append([kernel == 0 for kernel in kernels(model).values()])
        assert watch.seen[-1] == {name: size // 2 for name, size in SIZES.items()}
    for other in masks[1:]:
        for one, two in zip(masks[0], other):
            np.testing.assert_array_equal(one, two)


# ---- a plain model, before and after


def test_the_model_stays_a_plain_one(tmp_path):
    model, plain = build("two replicas"), build()
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
    assert model.count_params() == plain.count_params()
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    fit(plain, epochs=1)
    shown = [[], []]
    for lines, one in zip(shown, (model, plain)):
        one.summary(print_fn=lambda text, lines=lines: lines.append(text))
    assert shown[0] == shown[1]
    model.save(tmp_path / "pruned.keras")
    program = (
        "import sys, keras, numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'pruned.keras')!r})\n"
        "assert 'tfdist' not in sys.modules\n"
        "print([int((w == 0).sum()) for w in model.get_weights()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([int((w == 0).sum()) for w in model.get_weights()])


def test_masks_hold_in_a_later_fit_without_the_callback():
    for where in SCOPES:
        model = build(where)
        fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
        before, gone = kernels(model), zeros(model)
        watch = Watch()
        fit(model, watch, epochs=1)
        assert all(seen == gone for seen in watch.seen)
        assert not np.array_equal(kernels(model)["hidden"], before["hidden"])


def test_masks_are_found_again_from_the_zeros_of_a_file(tmp_path):
    model = build()
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
    model.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    pruning = compression.prune(loaded)  # holds what is zero
    fit(loaded, pruning, epochs=1)
    assert zeros(loaded) == zeros(model)
    for one, other in zip(kernels(loaded).values(), kernels(model).values()):
        np.testing.assert_array_equal(one == 0, other == 0)
    more = compression.prune(loaded, schedule=compression.Constant(final=0.9))
    fit(loaded, more, epochs=1)
    for one, other in zip(kernels(loaded).values(), kernels(model).values()):
        assert np.all(one[other == 0] == 0)
    assert zeros(loaded) == {name: round(0.9 * size) for name, size in SIZES.items()}


def test_a_kernel_that_begins_at_zero_is_not_taken_for_a_pruned_one():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    pruning = compression.prune(model, schedule=compression.Constant(final=0.5, begin=4))
    model.fit(RNG.normal(size=(32, 4)), RNG.normal(size=(32, 3)), 4, verbose=0, callbacks=[pruning])
    assert int(np.sum(model.layers[0].kernel.numpy() == 0)) == 6


# ---- with the other callbacks


def test_under_local_training_masks_are_those_of_the_average_model():
    model, watch = build("two replicas", ("SGD", {})), Watch()
    pruning = compression.prune(model, schedule=compression.Constant(final=0.5, begin=2))
    local = tfdist.callbacks.LocalSGD(period=4)
    fit(model, pruning, local, watch)
    assert zeros(model) == {name: size // 2 for name, size in SIZES.items()}
    for weight in (model.get_layer(name).kernel for name in SIZES):
        one, other = (replica.numpy() for replica in weight.value.values)
        np.testing.assert_array_equal(one == 0, other == 0)
    assert pruning.report().sparsity == 0.5


class Stop(Exception):
    pass


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Stop


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_a_resumed_training_ends_with_the_same_bits(where, tmp_path):
    def train(directory, *callbacks):
        model = build(where)
        schedule = compression.Cubic(final=0.8, begin=2, end=12, frequency=2)
        pruning = compression.prune(model, schedule=schedule, criterion="random")
        checkpoint = tfdist.callbacks.Checkpoint(tmp_path / directory, every_steps=3)
        fit(model, pruning, checkpoint, *callbacks)
        return model.get_weights()

    whole = train("whole")
    with pytest.raises(Stop):
        train("stopped", StopAt(7))
    for one, other in zip(train("stopped"), whole):
        np.testing.assert_array_equal(one, other)


# ---- what it says


def test_report():
    model = build()
    pruning = compression.prune(model, schedule=compression.Constant(final=0.75))
    assert pruning.report().sparsity == 0.0
    fit(model, pruning, epochs=1)
    report = pruning.report()
    assert [(one.weights, one.zeros) for one in report.pruned] == [
        (size, round(0.75 * size)) for size in SIZES.values()
    ]
    assert report.parameters == model.count_params()
    text = str(report)
    assert "convolution/kernel" in text and "75.00%" in text
    assert "skipped: no kernel that is known of a BatchNormalization" in text
    assert json.loads(json.dumps(report.to_dict()))["sparsity"] == 0.75


def test_settings_by_object_name_and_configuration():
    configuration = keras.saving.serialize_keras_object(compression.Block(2, 2))
    pruning = compression.prune(
        build(),
        criterion=compression.Random(seed=3),
        structure=configuration,
        allocation="lamp",
        schedule=compression.Constant(final=0.5),
        filters="hidden",
    )
    config = json.loads(json.dumps(pruning.get_config()))
    again = {name: keras.saving.deserialize_keras_object(one) for name, one in config.items()}
    assert again["criterion"].seed == 3
    assert (again["structure"].inputs, again["structure"].outputs) == (2, 2)
    assert again["schedule"].updates() == [(0, 0.5)]


@pytest.mark.parametrize(
    "arguments, error, said",
    [
        ({"criterion": "size"}, ValueError, "criterion='size': expected one of 'magnitude'"),
        ({"structure": 3}, TypeError, "structure=3: expected a name, or an object of Weight"),
        ({"schedule": "cubic"}, TypeError, "final"),
        ({"filters": "nothing"}, ValueError, "Nothing of 'network' can be pruned: .*filters"),
        (
            {"structure": "2:4", "schedule": compression.Constant(0.75)},
            ValueError,
            r"Constant\(final=0.75\): this structure has a sparsity of 0.5 and no other",
        ),
    ],
)
def test_what_cannot_be(arguments, error, said):
    with pytest.raises(error, match=said):
        compression.prune(build(), **arguments)


def test_the_fit_of_another_model():
    pruning = compression.prune(build(), schedule=compression.Constant(0.5))
    with pytest.raises(ValueError, match=r"made for the model .* the callback that `prune`"):
        fit(build(), pruning)
