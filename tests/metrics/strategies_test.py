"""The same numbers on one device, two replicas, two workers and parameter servers."""

import devices
import metric_cases
import numpy as np
import pytest
import slowness
import tensorflow as tf
from selection import selected
from sklearn import metrics as sklearn_metrics

import tfdist


def expected(kind):
    """The areas by scikit-learn, of all examples at once."""
    _, labels, weights = metric_cases.DATA[kind]()
    scores = metric_cases.probabilities(kind)
    roc, pr = sklearn_metrics.roc_auc_score, sklearn_metrics.average_precision_score
    if kind == "binary":
        (of,) = scores.T
        area = roc(labels, of, sample_weight=weights)
        return {
            "roc_auc": area,
            "pr_auc": pr(labels, of, sample_weight=weights),
            "coarse": area,
        }
    hot = labels if kind == "multi_label" else np.eye(4, dtype=int)[labels]
    return {
        "roc_auc": roc(hot, scores, sample_weight=weights),
        "pr_auc": pr(hot, scores, sample_weight=weights, average="weighted"),
        "micro": roc(hot, scores, sample_weight=weights, average="micro"),
    }


# What a kind needs of its metrics, and how state comes together on a topology, are two things:
# each of both is quick once or more, and all pairs are in `make test-all`.
QUICK = {
    "{}": ("binary", "multi_class", "multi_label"),
    "{'jit_compile': True}": ("multi_class",),
    "{'steps_per_execution': 4}": ("multi_label",),
    "mirrored": ("multi_label",),
    "two workers": ("binary",),
    "parameter servers": ("multi_class",),
}


def kinds(topology):
    return [
        pytest.param(kind, marks=[] if kind in QUICK[topology] else [pytest.mark.slow])
        for kind in metric_cases.DATA
    ]


@pytest.fixture(scope="module")
def two_workers(request):
    found = selected(request, "kind", test="test_two_workers")
    return tfdist.run(metric_cases.run, workers=2, args=(found,), timeout=slowness.seconds(150))


@pytest.fixture(scope="module")
def parameter_servers(request):
    found = selected(request, "kind", test="test_parameter_servers")
    return tfdist.run(
        metric_cases.run,
        workers=2,
        parameter_servers=1,
        args=(found,),
        timeout=slowness.seconds(150),
    )


def check(kind, found):
    for method in ("fit", "evaluate", "test_on_batch"):
        if not found[method]:
            continue
        for name, value in expected(kind).items():
            bound = found["bounds"].get(name, 2e-5)
            assert found[method][name] == pytest.approx(value, abs=bound + 1e-9), (method, name)
    for name, bound in found["bounds"].items():
        assert bound < (1e-3 if kind != "binary" or name != "coarse" else 0.02)
    false, true, _ = found["curve"]
    area = np.trapezoid(true, false)
    _, labels, weights = metric_cases.DATA[kind]()
    first = labels if kind == "binary" else labels[:, 0] if labels.ndim == 2 else labels == 0
    column = metric_cases.probabilities(kind)[:, 0]
    exact = sklearn_metrics.roc_auc_score(first, column, sample_weight=weights)
    assert area == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    ("compile", "kind"),
    [
        pytest.param(compile, *kind.values, marks=kind.marks)
        for compile in ({}, {"jit_compile": True}, {"steps_per_execution": 4})
        for kind in kinds(str(compile))
    ],
    ids=str,
)
def test_one_device(kind, compile):
    check(kind, metric_cases.logs(kind, tf.distribute.get_strategy(), **compile))


@pytest.mark.parametrize("kind", kinds("mirrored"))
def test_mirrored(kind):
    check(kind, metric_cases.logs(kind, tfdist.MirroredStrategy(devices.PAIR)))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", kinds("two workers"))
def test_two_workers(kind, two_workers):
    for found in two_workers:
        check(kind, found[kind])


@pytest.mark.timeout(200)
def test_large_state_crosses_the_wire_once_an_evaluate(two_workers):
    for found in two_workers:
        sent, largest = found["sent"]
        # Two such metrics; of two workers each sends half of a sum, twice.
        assert 2 * largest <= sent < 3 * largest


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", kinds("parameter servers"))
def test_parameter_servers(kind, parameter_servers):
    (found,) = parameter_servers
    check(kind, found[kind])
