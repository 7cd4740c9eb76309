"""The same numbers on one device, two replicas, two workers and parameter servers."""

import devices
import metric_cases
import numpy as np
import pytest
import tensorflow as tf
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


@pytest.fixture(scope="module")
def two_workers():
    return tfdist.run(metric_cases.run, workers=2, timeout=150)


@pytest.fixture(scope="module")
def parameter_servers():
    return tfdist.run(metric_cases.run, workers=2, parameter_servers=1, timeout=150)


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


@pytest.mark.parametrize("kind", metric_cases.DATA)
@pytest.mark.parametrize(
    "compile", [{}, {"jit_compile": True}, {"steps_per_execution": 4}], ids=str
)
def test_one_device(kind, compile):
    check(kind, metric_cases.logs(kind, tf.distribute.get_strategy(), **compile))


@pytest.mark.parametrize("kind", metric_cases.DATA)
def test_mirrored(kind):
    check(kind, metric_cases.logs(kind, tfdist.MirroredStrategy(devices.PAIR)))


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", metric_cases.DATA)
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
@pytest.mark.parametrize("kind", metric_cases.DATA)
def test_parameter_servers(kind, parameter_servers):
    (found,) = parameter_servers
    check(kind, found[kind])
