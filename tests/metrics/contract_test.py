"""What holds for each metric of counts and of probabilities."""

import json
import subprocess
import sys

import counted_cases
import devices
import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf
from counted_cases import CASES, DATA
from hypothesis import given, settings
from hypothesis import strategies as st

import tfdist

each = pytest.mark.parametrize("name", CASES)


def some(*quick):
    """All kinds of data, of which only these are quick."""
    return [pytest.param(kind, marks=[] if kind in quick else [pytest.mark.slow]) for kind in DATA]


def batch_of(kind, weighted=True):
    """Labels, probabilities and weights that are whole, so that sums are exact."""
    logits, labels, weights = DATA[kind]()
    activation = getattr(keras.ops, counted_cases.ACTIVATIONS[kind])
    weights = weights if kind == "tags" else np.round(weights * 4.0)
    return labels, np.array(activation(logits)), weights if weighted else None


def state(metric):
    return [variable.numpy() for variable in metric.variables]


@pytest.mark.parametrize("kind", DATA)
@settings(max_examples=5, deadline=None)
@given(st.data())
def test_uneven_parts_in_any_order_add_up_to_the_whole(kind, data):
    batch = batch_of(kind)
    size = len(batch[0])
    order = np.random.default_rng(data.draw(st.integers(0, 1000))).permutation(size)
    ends = sorted(data.draw(st.lists(st.integers(0, size), max_size=3)))  # of empty ones, too
    for case in counted_cases.of_kind(kind).values():
        whole = case.make()
        whole.update_state(*batch)
        parts = [case.make() for _ in range(len(ends) + 1)]
        for metric, part in zip(parts, np.split(order, ends)):
            metric.update_state(*[one[part] for one in batch])
        for one, *others in zip(state(whole), *map(state, parts)):
            np.testing.assert_allclose(sum(others), one, rtol=1e-12)
        together = case.make()
        for part in np.split(order, ends):
            together.update_state(*[one[part] for one in batch])
        assert float(together.result()) == pytest.approx(float(whole.result()), abs=1e-12)


@pytest.mark.parametrize("kind", some("binary", "tags"))
def test_a_compiled_update_is_the_same(kind):
    cases = counted_cases.of_kind(kind)
    eager, compiled = [[case.make() for case in cases.values()] for _ in range(2)]
    for metric, other in zip(eager, compiled):
        metric.update_state(*batch_of(kind))
        other.update_state(*[one[:0] for one in batch_of(kind)])  # makes its variables

    @tf.function(jit_compile=True)
    def update(*batch):
        for metric in compiled:
            metric.update_state(*batch)

    update(*map(tf.constant, batch_of(kind)))
    for metric, other in zip(eager, compiled):
        for one, same in zip(state(metric), state(other)):
            np.testing.assert_allclose(one, same, rtol=1e-12)


@each
def test_an_empty_batch_changes_nothing(name):
    case = CASES[name]
    metric = case.make()
    metric.update_state(*batch_of(case.kind))
    before = state(metric)
    metric.update_state(*[one[:0] for one in batch_of(case.kind)])
    for one, other in zip(before, state(metric)):
        np.testing.assert_array_equal(one, other)
    metric.reset_state()
    assert metric.result() == 0.0


@each
def test_nan_scores_make_the_result_nan(name):
    labels, scores, _ = batch_of(CASES[name].kind)
    metric = CASES[name].make()
    scores[0] = np.nan
    metric.update_state(labels, scores)
    assert np.isnan(metric.result())


@each
def test_its_config_is_plain_json(name):
    metric = CASES[name].make()
    config = json.loads(json.dumps(metric.get_config()))
    assert type(metric).from_config(config).get_config() == metric.get_config()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()


IN_ANOTHER = """
import sys, keras, numpy as np
import tfdist.metrics  # registers them
for path in sys.argv[1:]:
    model = keras.models.load_model(path)
    data = np.load(path.replace(".keras", ".npz"))
    logs = model.evaluate(data["x"], data["y"], return_dict=True, verbose=0)
    expected = {name: data[name] for name in logs}
    assert logs == expected, (logs, expected)
"""


def test_a_saved_model_has_its_metrics_in_another_process(tmp_path):
    paths = []
    for kind in ("binary", "tags"):  # of each class one
        # To trace so many metrics takes longer than to compute them once.
        scope = tf.distribute.get_strategy().scope()
        model = counted_cases.model_of(kind, scope, run_eagerly=True)
        x, y, _ = DATA[kind]()
        y = y[:, None] if kind == "binary" else y
        logs = model.evaluate(x, y, return_dict=True, verbose=0)
        assert logs.keys() > counted_cases.of_kind(kind).keys()
        paths.append(str(tmp_path / f"{kind}.keras"))
        model.save(paths[-1])
        np.savez(tmp_path / f"{kind}.npz", x=x, y=y, **logs)
    subprocess.run(
        [sys.executable, "-c", IN_ANOTHER, *paths], check=True, timeout=slowness.seconds(120)
    )


# -- in fit and evaluate ----------------------------------------------------------


@pytest.mark.slow  # replicas and workers have it below, and a compiled update above
@pytest.mark.parametrize(
    "kind, compile", [("multi_class", {}), ("tags", {"jit_compile": True})], ids=str
)
def test_one_device(kind, compile):
    found = counted_cases.logs(kind, tf.distribute.get_strategy(), **compile)
    counted_cases.check(kind, found)


@pytest.mark.parametrize("kind", some("binary"))
def test_two_replicas(kind):
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    # Tracing takes the time: `fit` is for one kind of each shape.
    found = counted_cases.logs(kind, strategy, fit=kind in ("multi_class", "tags"))
    counted_cases.check(kind, found)


@pytest.mark.timeout(200)
def test_two_workers():
    kinds = ["multi_class", "tags"]
    for found in tfdist.run(
        counted_cases.run, workers=2, args=(kinds,), timeout=slowness.seconds(150)
    ):
        for kind in kinds:
            counted_cases.check(kind, found[kind])
