import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import balanced_accuracy_score

import tfdist


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.BalancedAccuracy(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_it_is_scikit_learns(data, weighted):
    size = data.draw(st.integers(1, 12))
    labels, predicted = data.draw(hnp.arrays(np.int8, (2, size), elements=st.integers(0, 3)))
    weights = None
    if weighted:
        weights = data.draw(hnp.arrays(np.int8, size, elements=st.integers(1, 8))) / 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that labels or predictions lack
        exact = balanced_accuracy_score(labels, predicted, sample_weight=weights)
        result = float(measured(labels, np.eye(4)[predicted], weights).result())
    assert result == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_column(from_logits):
    labels, scores = np.array([0, 1, 1, 0, 0]), np.array([0.1, 0.3, 0.9, 0.8, 0.2])
    given = np.log(scores / (1.0 - scores)) if from_logits else scores
    metric = measured(labels, given, threshold=0.25, from_logits=from_logits)
    assert float(metric.result()) == balanced_accuracy_score(labels, scores >= 0.25)


def test_labels_of_one_class_are_one_warning():
    metric = measured([2, 2, 2], np.eye(3))
    with pytest.warns(UndefinedMetricWarning, match="all labels are 2, so it is the recall of 2"):
        assert float(metric.result()) == pytest.approx(1 / 3)
    assert float(metric.result()) == pytest.approx(1 / 3)


def test_without_data_it_is_0():
    assert tfdist.metrics.BalancedAccuracy().result() == 0.0
    assert measured(np.zeros(0), np.zeros(0)).result() == 0.0
