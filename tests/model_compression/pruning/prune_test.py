"""What goes, and when: exact behind each step, alike on replicas."""

import json

import keras
import numpy as np
import pytest
from pruning_cases import SCOPES, SIZES, Watch, build, fit, kernels, zeros

from tfdist import model_compression as compression

ACCUMULATION = {"momentum": 0.9, "gradient_accumulation_steps": 2}
EMA = {"use_ema": True, "ema_momentum": 0.9}


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
