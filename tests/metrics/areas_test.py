"""Against scikit-learn on scores whose order within bins is chosen to do harm."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tfdist.metrics import areas

CASES = st.lists(
    # bin, place within the bin (ties happen), label, weight
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1), st.integers(1, 4)),
    min_size=2,
    max_size=24,
)


def in_bins(case, weighted):
    bins, _, labels, weights = np.array(case).T
    weights = weights / 4 if weighted else np.ones(len(case))
    counts = np.zeros((2, 4))
    np.add.at(counts, (labels, bins), weights)
    return tf.constant(counts[0]), tf.constant(counts[1]), weights


def scores_and_labels(case):
    bins, places, labels, _ = np.array(case).T
    return bins + places / 8, labels


def worst_pr(case):
    """The case with each bin's negatives in front of its positives, which are one by one."""
    return [
        (b, (3 - i % 3) if not label else 0, label, w) for i, (b, _, label, w) in enumerate(case)
    ]


NO_TIES = np.zeros(4, bool)


@settings(max_examples=300, deadline=None)
@given(CASES, st.booleans())
def test_no_order_within_bins_passes_the_roc_bound(case, weighted):
    negatives, positives, weights = in_bins(case, weighted)
    scores, labels = scores_and_labels(case)
    if len(set(labels)) < 2:
        assert np.isnan(areas.roc_area(negatives, positives))
        return
    exact = roc_auc_score(labels, scores, sample_weight=weights)
    bound = areas.roc_bound(negatives, positives, NO_TIES)
    assert abs(exact - areas.roc_area(negatives, positives)) <= bound


@settings(max_examples=300, deadline=None)
@given(CASES, st.booleans())
@example([(0, 3, 0, 1), (0, 2, 1, 1), (0, 1, 1, 1), (0, 0, 1, 1)], False)
@example([(1, 0, 0, 4), (1, 1, 1, 1), (0, 2, 1, 1), (0, 3, 0, 1)], True)
def test_no_order_within_bins_passes_the_pr_bound(case, weighted):
    for one in (case, worst_pr(case)):
        negatives, positives, weights = in_bins(one, weighted)
        scores, labels = scores_and_labels(one)
        if not labels.any():
            assert areas.pr_area(negatives, positives) == 0.0
            return
        exact = average_precision_score(labels, scores, sample_weight=weights)
        bound = areas.pr_bound(negatives, positives, NO_TIES, weighted)
        assert abs(exact - areas.pr_area(negatives, positives)) <= bound


def test_the_pr_bound_is_reached():
    # One bin: the worst is 3 negatives, then 3 positives one by one.
    case = [(0, 3, 0, 1)] * 3 + [(0, place, 1, 1) for place in (2, 1, 0)]
    negatives, positives, _ = in_bins(case, False)
    scores, labels = scores_and_labels(case)
    worst = average_precision_score(labels, scores)
    assert worst == pytest.approx((1 / 4 + 2 / 5 + 3 / 6) / 3)
    area, best = float(areas.pr_area(negatives, positives)), 1.0
    bound = float(areas.pr_bound(negatives, positives, NO_TIES, False))
    assert bound == pytest.approx(max(area - worst, best - area))


@settings(max_examples=100, deadline=None)
@given(CASES, st.booleans())
def test_bins_of_ties_are_exact(case, weighted):
    negatives, positives, weights = in_bins(case, weighted)
    scores, labels = np.array(case)[:, 0], np.array(case)[:, 2]
    if len(set(labels)) < 2:
        return
    ties = ~NO_TIES
    roc = roc_auc_score(labels, scores, sample_weight=weights)
    assert float(areas.roc_area(negatives, positives)) == pytest.approx(roc, abs=1e-12)
    assert areas.roc_bound(negatives, positives, ties) < 1e-10
    pr = average_precision_score(labels, scores, sample_weight=weights)
    assert float(areas.pr_area(negatives, positives)) == pytest.approx(pr, abs=1e-12)
    assert areas.pr_bound(negatives, positives, ties, weighted) < 1e-10
