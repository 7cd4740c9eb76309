import keras
import numpy as np
import pytest
from sklearn.calibration import calibration_curve

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(500)


def by_the_formula(confidence, right, weights, bins):
    """The sum over bins `((m - 1) / M, m / M]`, example by example."""
    total = 0.0
    for m in range(bins):
        mine = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if m == 0:
            mine |= confidence == 0.0
        if mine.any():
            total += abs(np.sum(weights[mine] * (right[mine] - confidence[mine])))
    return total / weights.sum()


@pytest.mark.parametrize("weights", [np.ones(500), WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("bins", [1, 15])
def test_it_is_the_formula(bins, weights):
    scores = RANDOM.random(500, np.float32)
    labels = (RANDOM.random(500) < scores**2).astype(int)
    metric = tfdist.metrics.ExpectedCalibrationError(num_bins=bins)
    metric.update_state(labels, scores, weights)
    exact = by_the_formula(scores.astype(float), labels, weights, bins)
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


def test_many_classes_by_the_highest_probability():
    logits = 3 * RANDOM.normal(size=(500, 4))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = RANDOM.integers(0, 4, 500)
    metric = tfdist.metrics.ExpectedCalibrationError(from_logits=True)
    metric.update_state(labels, logits)
    right = scores.argmax(1) == labels
    exact = by_the_formula(scores.max(1), right, np.ones(500), 15)
    assert float(metric.result()) == pytest.approx(exact, abs=1e-6)


def test_the_curve_is_scikit_learns():
    scores = RANDOM.random(500, np.float32)
    labels = (RANDOM.random(500) < scores**2).astype(int)
    metric = tfdist.metrics.ExpectedCalibrationError(num_bins=10)
    with pytest.raises(ValueError, match="has seen no data"):
        metric.curve()
    metric.update_state(labels, scores)
    confidences, accuracies, weights = metric.curve()
    their_accuracies, their_confidences = calibration_curve(labels, scores, n_bins=10)
    np.testing.assert_allclose(accuracies, their_accuracies, atol=1e-12)
    np.testing.assert_allclose(confidences, their_confidences, atol=1e-7)
    assert weights.sum() == 500


def test_bad_arguments_and_serialising():
    with pytest.raises(ValueError, match="num_bins is 0"):
        tfdist.metrics.ExpectedCalibrationError(num_bins=0)
    metric = tfdist.metrics.ExpectedCalibrationError(num_classes=3, num_bins=7)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
