import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import average_precision_score, precision_recall_curve

import tfdist

RANDOM = np.random.default_rng(0)
LABELS = (RANDOM.random(5000) < 0.3).astype(int)
LOGITS = (RANDOM.normal(size=5000) * 6 + 8 * LABELS - 6).astype("float32")
WEIGHTS = RANDOM.random(5000)


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.PRAUC(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


@pytest.mark.parametrize("from_logits", [False, True])
def test_scores_that_crowd_near_0_and_1(from_logits):
    scores = LOGITS if from_logits else tf.sigmoid(LOGITS).numpy()
    metric = measured(LABELS, scores, from_logits=from_logits)
    exact = average_precision_score(LABELS, scores)
    assert abs(metric.result() - exact) <= metric.error_bound() < 2e-5
    weighted = measured(LABELS, scores, WEIGHTS, from_logits=from_logits)
    exact = average_precision_score(LABELS, scores, sample_weight=WEIGHTS)
    assert abs(weighted.result() - exact) <= weighted.error_bound() < 1e-3
    assert abs(weighted.result() - exact) < 1e-5


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([None, 64]))
def test_no_scores_pass_the_bound(data, weighted, num_bins):
    size = data.draw(st.integers(1, 40))
    values = data.draw(hnp.arrays(np.float32, 6, elements=st.floats(0.0, 1.0, width=32)))
    values = np.concatenate([values, np.nextafter(values, np.float32(0.5))])
    scores = values[data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, 11)))]
    labels = data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, 1)))
    weights = None
    if weighted:
        weights = data.draw(hnp.arrays(np.int8, size, elements=st.integers(1, 8))) / 8
    if not labels.any():
        return
    metric = measured(labels, scores, weights, num_bins=num_bins)
    exact = average_precision_score(labels, scores, sample_weight=weights)
    assert abs(metric.result() - exact) <= metric.error_bound()


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_many_classes(average):
    labels = RANDOM.choice(4, 2000, p=[0.1, 0.2, 0.3, 0.4])
    logits = (RANDOM.normal(size=(2000, 4)) + 2 * np.eye(4)[labels]).astype("float32")
    scores = tf.nn.softmax(logits).numpy()
    metric = measured(labels, scores, average=average)
    exact = average_precision_score(np.eye(4)[labels], scores, average=average)
    assert abs(metric.result() - exact) <= metric.error_bound() < 1e-3


def test_the_curve_is_scikit_learns():
    labels, scores = LABELS[:50], tf.sigmoid(LOGITS[:50]).numpy()
    precisions, recalls, thresholds = measured(labels, scores).curve()
    theirs = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(precisions, theirs[0][::-1])
    np.testing.assert_allclose(recalls, theirs[1][::-1])
    np.testing.assert_allclose(thresholds[1:], theirs[2][::-1], rtol=1e-3)
    with pytest.raises(ValueError, match="has seen no data"):
        tfdist.metrics.PRAUC().curve()


def test_without_positives_it_is_0_and_one_warning():
    metric = measured([0, 0], [0.1, 0.2])
    with pytest.warns(UndefinedMetricWarning, match="has no examples"):
        assert metric.result() == 0.0
    assert metric.result() == 0.0
    assert metric.error_bound() == 0.0


def test_it_is_serialisable():
    metric = tfdist.metrics.PRAUC(num_classes=3, average="weighted", name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
