import keras
import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(300)


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.MatthewsCorrelation(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return float(metric.result())


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_scikit_learns(weights):
    labels, scores = RANDOM.integers(0, 2, 300), RANDOM.random(300)
    exact = matthews_corrcoef(labels, scores >= 0.3, sample_weight=weights)
    assert measured(labels, scores, weights, threshold=0.3) == pytest.approx(exact, abs=1e-12)
    labels, logits = RANDOM.integers(0, 4, 300), RANDOM.normal(size=(300, 4))
    logits[:150] += 3 * np.eye(4)[labels[:150]]
    exact = matthews_corrcoef(labels, logits.argmax(1), sample_weight=weights)
    assert measured(labels, logits, weights, from_logits=True) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("labels, scores", [([0, 1, 1], [0.9] * 3), ([1] * 7, [0.1] + [0.9] * 6)])
def test_one_class_is_0(labels, scores):
    assert measured(labels, scores) == matthews_corrcoef(labels, np.array(scores) >= 0.5) == 0.0


def test_serialisable():
    metric = tfdist.metrics.MatthewsCorrelation(num_classes=3, from_logits=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
