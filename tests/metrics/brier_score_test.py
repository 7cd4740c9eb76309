import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

import tfdist

RANDOM = np.random.default_rng(0)
LABELS, WEIGHTS = RANDOM.integers(0, 3, 200), RANDOM.random(200)
LOGITS = (RANDOM.normal(size=(200, 3)) * 3.0).astype("float32")
weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.BrierScore(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return float(metric.result())


def softmax(logits):
    """In float64: scikit-learn's score of float32 probabilities is one in float32."""
    exps = np.exp(np.float64(logits))
    return exps / exps.sum(-1, keepdims=True)


@weighted
def test_one_column(weights):
    labels, scores = LABELS % 2, RANDOM.random(200).astype("float32")
    exact = brier_score_loss(labels, np.float64(scores), sample_weight=weights)
    assert measured(labels, scores, weights) == pytest.approx(exact, abs=1e-12)
    assert measured(labels[:, None], scores[:, None], weights) == pytest.approx(exact, abs=1e-12)


@weighted
@pytest.mark.parametrize("classes", [2, 3])
def test_several_columns(classes, weights):
    labels, logits = LABELS % classes, LOGITS[:, :classes]
    exact = brier_score_loss(
        labels, softmax(logits), sample_weight=weights, labels=[*range(classes)]
    )
    score = measured(labels, logits, weights, from_logits=True)
    assert score == pytest.approx(exact, abs=1e-12)
    hot = measured(np.eye(classes)[labels], np.float32(softmax(logits)), weights)
    assert hot == pytest.approx(exact, abs=1e-7)  # of float32 probabilities


def test_one_column_and_two_say_the_same():
    two = measured(LABELS % 2, LOGITS[:, :2], from_logits=True)
    one = measured(LABELS % 2, LOGITS[:, 1] - LOGITS[:, 0], from_logits=True)
    assert two == pytest.approx(one, abs=1e-7)


def test_multi_label_is_the_mean_of_each_labels_score():
    labels, scores = RANDOM.integers(0, 2, (200, 3)), RANDOM.random((200, 3)).astype("float32")
    columns = [
        brier_score_loss(labels[:, one], np.float64(scores[:, one]), sample_weight=WEIGHTS)
        for one in range(3)
    ]
    mine = measured(labels, scores, WEIGHTS, multi_label=True)
    assert mine == pytest.approx(np.mean(columns), abs=1e-12)
    logits = np.log(np.float64(scores) / (1.0 - scores))
    of_logits = measured(labels, logits, WEIGHTS, multi_label=True, from_logits=True)
    assert of_logits == pytest.approx(mine, abs=1e-6)


def test_scores_that_are_sure():
    assert measured([0, 1], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]) == 1.0  # 0 and 2
    assert measured([1, 1], [1000.0, -1000.0], from_logits=True) == 0.5


def test_sequences_with_a_mask():
    mask = RANDOM.random((20, 10)) < 0.6
    score = measured(LABELS.reshape(20, 10), LOGITS.reshape(20, 10, 3), mask, from_logits=True)
    flat = mask.reshape(-1)
    exact = brier_score_loss(LABELS[flat], softmax(LOGITS[flat]), labels=[0, 1, 2])
    assert score == pytest.approx(exact, abs=1e-12)


def test_bad_input():
    with pytest.raises(ValueError, match="1 examples have scores outside of 0 to 1"):
        measured([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="1 examples have labels that are none of 0 to 1"):
        measured([0, 2], [0.5, 0.5])
    assert np.isnan(measured([0, 1], [0.5, np.nan]))
    assert measured(np.zeros(0), np.zeros(0)) == 0.0
