import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, confusion_matrix

import tfdist


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.ConfusionMatrix(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([None, "true", "pred", "all"]))
def test_it_is_scikit_learns(data, weighted, normalize):
    size = data.draw(st.integers(1, 12))
    labels, predicted = data.draw(hnp.arrays(np.int8, (2, size), elements=st.integers(0, 3)))
    weights = None
    if weighted:
        weights = data.draw(hnp.arrays(np.int8, size, elements=st.integers(1, 8))) / 8
    metric = measured(labels, np.eye(4)[predicted], weights, normalize=normalize)
    options = {"labels": range(4), "normalize": normalize, "sample_weight": weights}
    exact = confusion_matrix(labels, predicted, **options)
    np.testing.assert_allclose(metric.matrix(), exact, rtol=1e-12, atol=0.0)
    accuracy = accuracy_score(labels, predicted, sample_weight=weights)
    assert float(metric.result()) == pytest.approx(accuracy, abs=1e-12)


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_column(from_logits):
    labels, scores = np.array([0, 1, 1, 0, 1]), np.array([0.1, 0.3, 0.9, 0.8, 0.6])
    given = np.log(scores / (1.0 - scores)) if from_logits else scores
    metric = measured(labels, given, threshold=0.4, from_logits=from_logits)
    np.testing.assert_array_equal(metric.matrix(), confusion_matrix(labels, scores >= 0.4))


def test_sequences_with_a_mask():
    labels, predicted = np.array([[0, 1, 2], [2, 1, 0]]), np.array([[0, 2, 2], [1, 1, 0]])
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    matrix = measured(labels, np.eye(3)[predicted], mask).matrix()
    np.testing.assert_array_equal(matrix, [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_the_matrix_needs_data():
    metric = tfdist.metrics.ConfusionMatrix()
    for _ in range(2):
        with pytest.raises(ValueError, match="confusion_matrix has seen no data"):
            metric.matrix()
        metric.update_state(np.zeros(0), np.zeros((0, 3)))
    assert metric.result() == 0.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="normalize is 'rows'; expected None, true, pred, all"):
        tfdist.metrics.ConfusionMatrix(normalize="rows")
    with pytest.raises(ValueError, match="threshold is 'half'"):
        tfdist.metrics.ConfusionMatrix(threshold="half")


def test_bad_labels():
    with pytest.raises(ValueError, match="2 examples have labels that are none of 0 to 2"):
        measured([0, 3, -1], np.eye(3)).result()
