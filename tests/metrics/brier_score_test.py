import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import brier_score_loss

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(300)


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.BrierScore(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return float(metric.result())


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_scikit_learns(weights):
    labels, logits = RANDOM.integers(0, 2, 300), RANDOM.normal(size=300).astype("float32")
    scores = tf.sigmoid(logits).numpy()
    exact = brier_score_loss(labels, scores.astype(float), sample_weight=weights)
    assert measured(labels, scores, weights) == pytest.approx(exact, abs=1e-12)
    assert measured(labels, logits, weights, from_logits=True) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_many_classes(weights):
    labels, logits = RANDOM.integers(0, 4, 300), RANDOM.normal(size=(300, 4)).astype("float32")
    scores = tf.nn.softmax(logits).numpy()
    # scikit-learn divides by the rows' sums, which float32 rounds.
    exact = brier_score_loss(labels, scores / scores.sum(1, keepdims=True), sample_weight=weights)
    assert measured(labels, scores, weights) == pytest.approx(exact, abs=1e-6)
    assert measured(labels, logits, weights, from_logits=True) == pytest.approx(exact, abs=1e-6)


def test_multi_label():
    labels, scores = RANDOM.integers(0, 2, (300, 3)), RANDOM.random((300, 3), np.float32)
    exact = np.mean([brier_score_loss(labels[:, k], scores[:, k].astype(float)) for k in range(3)])
    assert measured(labels, scores, multi_label=True) == pytest.approx(exact, abs=1e-12)


def test_serialisable():
    metric = tfdist.metrics.BrierScore(num_classes=3, multi_label=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
