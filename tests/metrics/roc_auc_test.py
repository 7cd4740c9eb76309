import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import roc_auc_score, roc_curve

import tfdist

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 5000)
LOGITS = (RANDOM.normal(size=5000) * 6 + 4 * LABELS).astype("float32")
WEIGHTS = RANDOM.random(5000)


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.ROCAUC(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_scores_that_crowd_near_0_and_1(from_logits, weights):
    scores = LOGITS if from_logits else tf.sigmoid(LOGITS).numpy()
    metric = measured(LABELS, scores, weights, from_logits=from_logits)
    exact = roc_auc_score(LABELS, scores, sample_weight=weights)
    assert metric.error_bound() < 1e-5
    assert abs(metric.result() - exact) <= metric.error_bound()


def test_kerass_own_is_further_off():
    scores = tf.sigmoid(LOGITS).numpy()
    stock = keras.metrics.AUC()
    stock.update_state(LABELS, scores)
    assert abs(float(stock.result()) - roc_auc_score(LABELS, scores)) > 1e-4


@settings(max_examples=150, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([None, 64]))
def test_no_scores_pass_the_bound(data, from_logits, num_bins):
    size = data.draw(st.integers(2, 40))
    limits = {} if from_logits else {"min_value": 0.0, "max_value": 1.0}
    elements = st.floats(width=32, allow_nan=False, allow_infinity=False, **limits)
    # A few values, so that ties happen, and their neighbours.
    values = data.draw(hnp.arrays(np.float32, 6, elements=elements))
    values = np.concatenate([values, np.nextafter(values, np.float32(0.5))])
    scores = values[data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, 11)))]
    labels = data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, 1)))
    if len(set(labels)) < 2:
        return
    metric = measured(labels, scores, from_logits=from_logits, num_bins=num_bins)
    assert abs(metric.result() - roc_auc_score(labels, scores)) <= metric.error_bound()


def test_float64_scores_that_float32_makes_equal_are_in_the_bound():
    scores = 1.0 - np.array([4, 3, 2, 1]) * 1e-12
    metric = measured([1, 0, 1, 0], scores)
    assert abs(metric.result() - roc_auc_score([1, 0, 1, 0], scores)) <= metric.error_bound()
    assert float(metric.error_bound()) == pytest.approx(0.5)


def test_parts_in_any_order_are_the_whole():
    scores = tf.sigmoid(LOGITS).numpy()
    whole = measured(LABELS, scores, WEIGHTS)
    parts = tfdist.metrics.ROCAUC()
    order = RANDOM.permutation(5000)
    for part in np.split(order, [0, 1, 700, 4000]):
        parts.update_state(LABELS[part], scores[part], WEIGHTS[part])
    assert float(parts.result()) == pytest.approx(float(whole.result()), abs=1e-12)


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
@pytest.mark.parametrize("from_logits", [False, True])
def test_many_classes(average, from_logits):
    labels = RANDOM.choice(4, 2000, p=[0.1, 0.2, 0.3, 0.4])
    logits = (RANDOM.normal(size=(2000, 4)) + 2 * np.eye(4)[labels]).astype("float32")
    scores = tf.nn.softmax(logits).numpy()
    metric = measured(
        labels, logits if from_logits else scores, average=average, from_logits=from_logits
    )
    exact = roc_auc_score(np.eye(4)[labels], scores, average=average)
    assert abs(metric.result() - exact) <= metric.error_bound() < 3e-4
    each = [roc_auc_score(labels == one, scores[:, one]) for one in range(4)]
    np.testing.assert_allclose(metric.per_class(), each, atol=3e-4)
    one_hot = measured(
        np.eye(4)[labels],
        logits if from_logits else scores,
        average=average,
        from_logits=from_logits,
    )
    assert one_hot.result() == metric.result()


@pytest.mark.parametrize("from_logits", [False, True])
def test_multi_label(from_logits):
    labels = (RANDOM.random((1000, 3)) < [0.1, 0.5, 0.8]).astype(int)
    logits = (RANDOM.normal(size=(1000, 3)) + labels).astype("float32")
    scores = logits if from_logits else tf.sigmoid(logits).numpy()
    metric = measured(labels, scores, multi_label=True, from_logits=from_logits)
    assert abs(metric.result() - roc_auc_score(labels, scores)) <= metric.error_bound() < 3e-4


def test_sequences_with_a_mask():
    labels, scores = LABELS[:600].reshape(20, 30), tf.sigmoid(LOGITS[:600]).numpy()
    mask = RANDOM.random((20, 30)) < 0.6
    metric = measured(labels, scores.reshape(20, 30, 1), mask)
    exact = roc_auc_score(labels[mask], scores.reshape(20, 30)[mask])
    assert abs(metric.result() - exact) <= metric.error_bound()


# -- the curve ------------------------------------------------------------------


def test_the_curve_is_scikit_learns():
    labels, scores = LABELS[:50], tf.sigmoid(LOGITS[:50]).numpy()
    mine = measured(labels, scores).curve()
    theirs = roc_curve(labels, scores, drop_intermediate=False)
    for one, other in zip(mine[:2], theirs[:2]):
        np.testing.assert_allclose(one, other)
    # The lowest score that a bin can hold, instead of the score itself.
    np.testing.assert_allclose(mine[2][1:], theirs[2][1:], rtol=1e-3)
    assert np.all(mine[2][1:] <= theirs[2][1:])


def test_a_curve_needs_data_and_a_class():
    metric = tfdist.metrics.ROCAUC()
    with pytest.raises(ValueError, match="has seen no data"):
        metric.curve()
    metric.update_state(np.zeros((0,)), np.zeros((0,)))
    for read in (metric.curve, metric.error_bound, metric.per_class):
        with pytest.raises(ValueError, match="has seen no data"):
            read()
    many = measured([0, 1, 2], np.eye(3))
    with pytest.raises(ValueError, match="3 classes: pass class_id, from 0 to 2"):
        many.curve()
    with pytest.raises(ValueError, match="class_id is 3; expected 0 to 2"):
        many.curve(class_id=3)
    assert many.curve(class_id=2)[1][-1] == 1.0


# -- what is not defined, and bad input -----------------------------------------


@pytest.mark.parametrize("label, words", [(0, "has no examples"), (1, "has all the examples")])
def test_one_class_only_is_nan_and_one_warning(label, words):
    metric = measured([label] * 3, [0.1, 0.2, 0.3])
    with pytest.warns(UndefinedMetricWarning, match=words):
        assert np.isnan(metric.result())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(metric.result())


def test_without_data_it_is_0():
    metric = tfdist.metrics.ROCAUC()
    assert metric.result() == 0.0
    metric.update_state(np.zeros((0,)), np.zeros((0,)))
    assert metric.result() == 0.0


def test_reset():
    metric = measured(LABELS, tf.sigmoid(LOGITS))
    metric.reset_state()
    metric.update_state([0, 1], [0.2, 0.7])
    assert metric.result() == 1.0


@pytest.mark.parametrize(
    "options, words",
    [
        ({"average": "mean"}, "average is 'mean'; expected one of macro, weighted, micro"),
        ({"num_bins": 1}, "num_bins=1"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        tfdist.metrics.ROCAUC(**options)


def test_it_is_serialisable(tmp_path):
    options = {"average": "micro", "from_logits": True, "num_bins": 500, "multi_label": True}
    metric = tfdist.metrics.ROCAUC(num_classes=3, name="mine", **options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert {name: again.get_config()[name] for name in options} == options
