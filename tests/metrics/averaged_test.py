"""Precision, recall and F1 against scikit-learn, by one class of them each."""

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(400)
METRICS = {
    "Precision": sklearn.metrics.precision_score,
    "Recall": sklearn.metrics.recall_score,
    "F1Score": sklearn.metrics.f1_score,
}
BINARY = RANDOM.integers(0, 2, 400), RANDOM.normal(size=400).astype("float32")
MANY = RANDOM.choice(5, 400, p=[0.4, 0.3, 0.2, 0.1, 0.0]), RANDOM.normal(size=(400, 5))
LABELS = (RANDOM.random((400, 3)) < [0.1, 0.5, 0.9]).astype(int), RANDOM.normal(size=(400, 3))


def measured(name, y_true, y_pred, sample_weight=None, **options):
    metric = getattr(tfdist.metrics, name)(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted"])
@pytest.mark.parametrize("name", METRICS)
def test_two_classes(name, average, weights):
    labels, logits = BINARY
    options = {"average": average, "sample_weight": weights, "zero_division": 0}
    for threshold in (0.5, 0.7):
        probabilities = tf.sigmoid(logits).numpy()
        exact = METRICS[name](labels, probabilities >= threshold, **options)
        for scores, from_logits in ((logits, True), (probabilities, False)):
            metric = measured(
                name,
                labels,
                scores,
                weights,
                average=average,
                threshold=threshold,
                from_logits=from_logits,
            )
            assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", METRICS)
def test_many_classes(name, average, weights):
    labels, logits = MANY
    # The last class is neither there nor predicted: scikit-learn does not know of it.
    logits = np.where(np.arange(5) == 4, -9.0, logits)
    options = {"sample_weight": weights, "zero_division": 0}
    exact = METRICS[name](labels, logits.argmax(1), average=average, **options)
    metric = measured(name, labels, logits, weights, average=average, from_logits=True)
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)
    each = METRICS[name](labels, logits.argmax(1), average=None, labels=range(5), **options)
    np.testing.assert_allclose(metric.per_class(), each, atol=1e-12)
    one = measured(name, labels, logits, weights, class_id=2, from_logits=True)
    assert float(one.result()) == pytest.approx(each[2], abs=1e-12)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", METRICS)
def test_multi_label(name, average):
    labels, logits = LABELS
    options = {"sample_weight": WEIGHTS, "zero_division": 0, "average": average}
    exact = METRICS[name](labels, logits >= 0, **options)
    metric = measured(
        name, labels, logits, WEIGHTS, average=average, from_logits=True, multi_label=True
    )
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


def test_sequences_with_a_mask():
    labels, logits = MANY[0].reshape(20, 20), MANY[1].reshape(20, 20, 5)
    mask = RANDOM.random((20, 20)) < 0.5
    metric = measured("F1Score", labels, logits, mask, from_logits=True)
    exact = sklearn.metrics.f1_score(labels[mask], logits.argmax(-1)[mask], average="macro")
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=4), st.randoms(use_true_random=False))
def test_parts_in_any_order_are_the_whole(cuts, shuffle):
    labels, logits = MANY
    whole = measured("F1Score", labels, logits, from_logits=True)
    order = list(range(400))
    shuffle.shuffle(order)
    parts = tfdist.metrics.F1Score(from_logits=True)
    for part in np.split(np.array(order), sorted(cuts)):
        parts.update_state(labels[part], logits[part])
    np.testing.assert_array_equal(parts.sums()["counts"], whole.sums()["counts"])


def test_counts_are_exact_where_float32_would_stop():
    metric = tfdist.metrics.Recall()
    metric.update_state([1], [0.9], [2.0**24])
    metric.update_state([1, 1], [0.9, 0.1])
    np.testing.assert_array_equal(metric.sums()["counts"][:, 1], [2**24 + 1, 2**24 + 1, 2**24 + 2])


def test_compiled():
    labels, logits = MANY
    metric = tfdist.metrics.F1Score(5, from_logits=True)
    tf.function(metric.update_state, jit_compile=True)(labels, logits)
    exact = sklearn.metrics.f1_score(labels, logits.argmax(1), average="macro")
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"average": "samples"}, "average is 'samples'; expected one of binary, macro"),
        ({"average": "macro", "class_id": 1}, "a single class has no average"),
        ({"average": "binary", "num_classes": 3}, "more than two classes"),
        ({"average": "binary", "multi_label": True}, "more than two classes"),
        ({"class_id": 3, "num_classes": 3}, "class_id is 3; expected 0 to 2"),
        ({"threshold": 1.5}, "threshold is 1.5; expected a probability"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        tfdist.metrics.F1Score(**options)


def test_binary_with_many_columns():
    with pytest.raises(ValueError, match="the scores have 3 columns"):
        measured("F1Score", [0, 1], np.ones((2, 3)) / 3, average="binary")


@pytest.mark.parametrize("name", METRICS)
def test_serialisable(name):
    metric = getattr(tfdist.metrics, name)(num_classes=3, class_id=1, threshold=0.25, name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert again.class_id == 1
