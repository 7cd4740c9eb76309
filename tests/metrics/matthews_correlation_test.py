import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import matthews_corrcoef

import tfdist


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.MatthewsCorrelation(**options)
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
        warnings.simplefilter("ignore")  # of labels of one class
        result = float(measured(labels, np.eye(4)[predicted], weights).result())
        exact = matthews_corrcoef(labels, predicted, sample_weight=weights)
    assert result == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_column(from_logits):
    labels, scores = np.array([0, 1, 1, 0, 0]), np.array([0.1, 0.3, 0.9, 0.8, 0.2])
    given = np.log(scores / (1.0 - scores)) if from_logits else scores
    metric = measured(labels, given, threshold=0.25, from_logits=from_logits)
    exact = matthews_corrcoef(labels, scores >= 0.25)
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


def test_labels_of_one_class_are_0_and_one_warning():
    metric = measured([2, 2, 2], np.eye(3))
    with pytest.warns(UndefinedMetricWarning, match="all labels are 2, so it is not defined"):
        assert metric.result() == 0.0
    assert metric.result() == 0.0


def test_predictions_of_one_class_are_0_whatever_the_weights():
    assert measured([0, 1, 2], np.eye(3)[[1, 1, 1]], [0.1, 0.2, 0.3]).result() == 0.0


def test_many_examples_keep_their_digits():
    metric = tfdist.metrics.MatthewsCorrelation(num_classes=2)
    counts = np.array([[3e8, 5e7], [2e7, 9e8]])
    for label in range(2):
        for predicted in range(2):
            metric.update_state([label], np.eye(2)[[predicted]], [counts[label, predicted]])
    (tn, fp), (fn, tp) = counts
    exact = (tp * tn - fp * fn) / ((tp + fp) * (tp + fn)) ** 0.5 / ((tn + fp) * (tn + fn)) ** 0.5
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)
