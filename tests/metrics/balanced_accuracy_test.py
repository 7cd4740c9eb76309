import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(300)


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.BalancedAccuracy(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return float(metric.result())


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_scikit_learns(weights):
    labels, scores = RANDOM.integers(0, 2, 300), RANDOM.random(300)
    exact = balanced_accuracy_score(labels, scores >= 0.3, sample_weight=weights)
    assert measured(labels, scores, weights, threshold=0.3) == pytest.approx(exact, abs=1e-12)
    labels, logits = RANDOM.choice(4, 300, p=[0.6, 0.3, 0.1, 0.0]), RANDOM.normal(size=(300, 4))
    predicted = logits[:, :3].argmax(1)
    exact = balanced_accuracy_score(labels, predicted, sample_weight=weights)
    logits[:, 3] = -9.0  # a class without examples
    assert measured(labels, logits, weights, from_logits=True) == pytest.approx(exact, abs=1e-12)


def test_serialisable():
    metric = tfdist.metrics.BalancedAccuracy(num_classes=3, from_logits=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
