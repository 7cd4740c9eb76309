"""Against every threshold, tried one by one with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import tfdist
from tfdist.evaluation.threshold import best_threshold


def report_of(labels, scores, weights=None, **kwargs):
    data = (np.asarray(scores), np.asarray(labels))
    return tfdist.evaluate(lambda x: x, data, sample_weight=weights, bootstrap=0, **kwargs)


def every_outcome(y, p, w, score):
    """The score of each set of positives that some threshold makes."""
    return [score(y, (p >= t).astype(int), w) for t in [*np.unique(p), 2.0]]


def precision(y, q, w):
    return sk.precision_score(y, q, sample_weight=w, zero_division=0)


def recall(y, q, w):
    return sk.recall_score(y, q, sample_weight=w)


SCORES = {
    "f1": lambda y, q, w: sk.f1_score(y, q, sample_weight=w, zero_division=0),
    "accuracy": lambda y, q, w: sk.accuracy_score(y, q, sample_weight=w),
    "balanced_accuracy": lambda y, q, w: sk.balanced_accuracy_score(y, q, sample_weight=w),
    "mcc": lambda y, q, w: sk.matthews_corrcoef(y, q, sample_weight=w),
}
quickly = settings(max_examples=30, deadline=None, database=None)
examples = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(1, 3)), min_size=2, max_size=25
).filter(lambda rows: len({row[0] for row in rows}) == 2)


def unpacked(rows):
    y, p, w = (np.array(column) for column in zip(*rows))
    return y, p / 12, w


@quickly
@given(examples, st.sampled_from(sorted(SCORES)))
def test_no_threshold_is_better(rows, aim):
    y, p, w = unpacked(rows)
    chosen = best_threshold(report_of(y, p, w), maximize=aim)
    best = max(every_outcome(y, p, w, SCORES[aim]))
    q = (p >= chosen.value).astype(int)
    np.testing.assert_allclose(chosen.score, best, atol=1e-12)
    np.testing.assert_allclose(SCORES[aim](y, q, w), best, atol=1e-12)
    np.testing.assert_allclose(chosen.precision, precision(y, q, w), atol=1e-12)
    np.testing.assert_allclose(chosen.recall, recall(y, q, w), atol=1e-12)
    np.testing.assert_allclose(chosen.accuracy, SCORES["accuracy"](y, q, w), atol=1e-12)
    np.testing.assert_allclose(chosen.f1, SCORES["f1"](y, q, w), atol=1e-12)
    np.testing.assert_allclose(chosen.positives, np.average(q, weights=w), atol=1e-12)


@quickly
@given(examples, st.lists(st.integers(-5, 50), min_size=4, max_size=4))
def test_no_threshold_is_cheaper(rows, costs):
    y, p, w = unpacked(rows)
    costs = np.reshape(costs, (2, 2))
    chosen = best_threshold(report_of(y, p, w), costs=costs)

    def cost(y, q, w):
        return np.average(costs[y, q], weights=w)

    assert chosen.objective == "cost"
    np.testing.assert_allclose(chosen.score, min(every_outcome(y, p, w, cost)), atol=1e-12)
    np.testing.assert_allclose(
        cost(y, (p >= chosen.value).astype(int), w), chosen.score, atol=1e-12
    )


@quickly
@given(examples, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_most_recall_at_a_precision(rows, bound):
    y, p, w = unpacked(rows)
    pairs = every_outcome(y, p, w, lambda *args: (precision(*args), recall(*args)))
    reachable = max(pair[0] for pair in pairs)
    if reachable < bound:
        with pytest.raises(ValueError, match=f"the best that is reachable is {reachable:.6g}, at"):
            best_threshold(report_of(y, p, w), recall_at_precision=bound)
        return
    chosen = best_threshold(report_of(y, p, w), recall_at_precision=bound)
    best = max((r, q) for q, r in pairs if q >= bound)
    np.testing.assert_allclose((chosen.recall, chosen.precision), best)
    assert chosen.score == chosen.recall
    assert chosen.objective == f"recall at precision {bound:g}"


@quickly
@given(examples, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_most_precision_at_a_recall(rows, bound):
    y, p, w = unpacked(rows)
    pairs = every_outcome(y, p, w, lambda *args: (precision(*args), recall(*args)))
    chosen = best_threshold(report_of(y, p, w), precision_at_recall=bound)
    best = max((q, r) for q, r in pairs if r >= bound)
    np.testing.assert_allclose((chosen.precision, chosen.recall), best)


def test_the_value_lies_between_two_scores():
    chosen = best_threshold(report_of([0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9]))
    assert chosen.value == 0.5 and float(chosen) == 0.5
    assert chosen.score == 1
    assert str(chosen) == (
        "threshold 0.5: f1 1.0000, precision 1.0000, recall 1.0000 on the data that it was chosen "
        "on"
    )


def test_saying_no_to_all_and_yes_to_all():
    report = report_of([0, 1], [1.0, 0.0])
    never = best_threshold(report, costs=[[0, 9], [1, 0]])
    assert never.value > 1 and never.recall == 0 and never.positives == 0
    always = best_threshold(report, costs=[[0, 1], [9, 0]])
    assert always.value == 0 and always.recall == 1


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"maximize": "auc"}, "maximize='auc': expected one of"),
        ({"maximize": "f1", "costs": [[0, 1], [1, 0]]}, "Received maximize and costs: expected on"),
        ({"costs": [0, 1]}, r"costs of shape \(2,\)"),
        ({"costs": [[0, 1], [np.nan, 0]]}, "expected finite numbers"),
        ({"recall_at_precision": 0}, "recall_at_precision=0: expected a number above 0"),
        ({"precision_at_recall": 1.5}, r"precision_at_recall=1\.5"),
    ],
)
def test_what_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        best_threshold(report_of([0, 1], [0.2, 0.4]), **kwargs)


def test_other_tasks_are_refused():
    report = report_of([0, 1, 2], np.eye(3))
    with pytest.raises(ValueError, match="is for binary tasks; received a report of a multiclass"):
        best_threshold(report)


@pytest.mark.filterwarnings("ignore:The data hold no example")
def test_one_class_only_is_refused():
    report = report_of([1, 1], [0.2, 0.4], class_names=["ham", "spam"])
    with pytest.raises(ValueError, match="no example of class 'ham'; expected both"):
        best_threshold(report)
