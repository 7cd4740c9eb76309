"""`Precision`, `Recall` and `F1Score`, each against scikit-learn's."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import f1_score, precision_score, recall_score

import tfdist

PAIRS = {
    "precision": (tfdist.metrics.Precision, precision_score),
    "recall": (tfdist.metrics.Recall, recall_score),
    "f1_score": (tfdist.metrics.F1Score, f1_score),
}
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(5, 400, p=[0.5, 0.3, 0.15, 0.05, 0.0])  # the last is never seen
LOGITS = (2.0 * RANDOM.normal(size=(400, 5)) + 2.0 * np.eye(5)[LABELS]).astype("float32")
WEIGHTS = RANDOM.random(400)
each = pytest.mark.parametrize("name", PAIRS)


def measured(name, y_true, y_pred, sample_weight=None, **options):
    metric = PAIRS[name][0](**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


def exactly(name, labels, predicted, **options):
    return pytest.approx(PAIRS[name][1](labels, predicted, zero_division=0.0, **options), abs=1e-12)


@each
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_several_classes(name, average, weights):
    exact = exactly(name, LABELS, LOGITS.argmax(1), average=average, sample_weight=weights)
    for labels in (LABELS, LABELS[:, None], np.eye(5)[LABELS]):
        metric = measured(name, labels, LOGITS, weights, average=average, from_logits=True)
        assert float(metric.result()) == exact
    scores = tf.nn.softmax(LOGITS)
    assert float(measured(name, LABELS, scores, weights, average=average).result()) == exact


@each
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted"])
def test_two_classes(name, columns, average):
    labels, logits = LABELS % 2, LOGITS[:, 0]
    exact = exactly(name, labels, logits >= 0, average=average, sample_weight=WEIGHTS)
    if columns == 2:
        logits = np.stack([np.zeros_like(logits), logits], 1)
    for one in (average, None) if average == "binary" else (average,):
        metric = measured(name, labels, logits, WEIGHTS, average=one, from_logits=True)
        assert float(metric.result()) == exact
    both = PAIRS[name][1](labels, LOGITS[:, 0] >= 0, average=None, sample_weight=WEIGHTS)
    np.testing.assert_allclose(metric.per_class(), both, rtol=1e-12)


@each
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_multi_label(name, average, weights):
    labels = (RANDOM.random((400, 4)) < [0.1, 0.5, 0.8, 0.0]).astype(int)
    logits = LOGITS[:, :4] - [0, 0, 0, 100]  # of the last there is none, nor guessed to be
    options = {"multi_label": True, "average": average}
    exact = exactly(name, labels, logits >= 0, average=average, sample_weight=weights)
    of_logits = measured(name, labels, logits, weights, from_logits=True, **options)
    assert float(of_logits.result()) == exact
    scores = tf.sigmoid(np.float32(logits))
    metric = measured(name, labels, scores, weights, **options)
    assert float(metric.result()) == exact
    by_column = exactly(name, labels, logits >= 0, average=None, sample_weight=weights)
    assert metric.per_class() == by_column


@each
def test_one_label(name):
    labels = LABELS[:, None] % 2
    metric = measured(name, labels, LOGITS[:, :1], from_logits=True, multi_label=True)
    assert float(metric.result()) == exactly(name, labels[:, 0], LOGITS[:, 0] >= 0)
    assert metric.per_class().shape == (1,)


@each
def test_thresholds(name):
    labels, scores = LABELS % 2, tf.sigmoid(LOGITS[:, 0]).numpy()
    exact = exactly(name, labels, scores >= 0.3)
    assert float(measured(name, labels, scores, threshold=0.3).result()) == exact
    logits = {"threshold": 0.3, "from_logits": True}
    assert float(measured(name, labels, LOGITS[:, 0], **logits).result()) == exact
    # All and none, as nothing is below 0 or above 1.
    for threshold, predicted in ((0.0, labels >= 0), (1.0, labels < 0)):
        for from_logits in (False, True):
            options = {"threshold": threshold, "from_logits": from_logits}
            metric = measured(name, labels, LOGITS[:, 0] if from_logits else scores, **options)
            assert float(metric.result()) == exactly(name, labels, predicted)


def test_a_score_of_the_threshold_is_a_yes_as_in_evaluate():
    assert measured("recall", [1, 1], [0.5, 0.4]).result() == 0.5
    assert measured("recall", [1, 1], [0.0, -0.1], from_logits=True).result() == 0.5


@each
@pytest.mark.parametrize("class_id", range(4))
def test_one_class_of_several(name, class_id):
    metric = measured(name, LABELS, LOGITS, WEIGHTS, class_id=class_id, from_logits=True)
    options = {"sample_weight": WEIGHTS, "average": None, "labels": range(5)}
    exact = PAIRS[name][1](LABELS, LOGITS.argmax(1), zero_division=0.0, **options)
    np.testing.assert_allclose(metric.per_class(), exact, rtol=1e-12)
    assert float(metric.result()) == pytest.approx(exact[class_id], abs=1e-12)


@each
def test_sequences_with_a_mask(name):
    mask = RANDOM.random((20, 20)) < 0.6
    sequences = LABELS.reshape(20, 20), LOGITS.reshape(20, 20, 5)
    metric = measured(name, *sequences, mask, from_logits=True, average="macro")
    flat = mask.reshape(-1)
    exact = exactly(name, LABELS[flat], LOGITS.argmax(1)[flat], average="macro")
    assert float(metric.result()) == exact


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([*PAIRS]), st.sampled_from(["macro", "micro", "weighted"]))
def test_a_few_examples_of_classes_that_are_missing(data, name, average):
    size = data.draw(st.integers(1, 6))
    labels, predicted = data.draw(hnp.arrays(np.int8, (2, size), elements=st.integers(0, 4)))
    metric = measured(name, labels, np.eye(5)[predicted], average=average)
    assert float(metric.result()) == exactly(name, labels, predicted, average=average)


@pytest.mark.parametrize("name", ["recall", "f1_score"])
def test_a_class_without_examples_is_0_and_one_warning(name):
    metric = measured(name, [0, 0, 0], [0.1, 0.2, 0.7])
    with pytest.warns(UndefinedMetricWarning, match="class 1 has no examples"):
        assert metric.result() == 0.0
    assert metric.result() == 0.0


def test_what_is_never_predicted_has_a_precision_of_0():
    assert measured("precision", [0, 1, 1], [0.1, 0.2, 0.3]).result() == 0.0


def test_a_large_vocabulary():
    # One-hot rows of these would be 80 MB.
    labels = RANDOM.integers(0, 50_000, 200)
    scores = np.zeros((200, 50_000), "float32")
    scores[np.arange(200), np.where(np.arange(200) % 2, labels, 7)] = 1.0
    metric = measured("f1_score", labels, scores, average="weighted")
    exact = exactly("f1_score", labels, scores.argmax(1), average="weighted")
    assert float(metric.result()) == exact
    assert sum(8 * np.prod(v.shape) for v in metric.variables) == 24 * 50_000 + 8 + 32


@each
def test_per_class_needs_data(name):
    metric = PAIRS[name][0]()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name} has seen no data"):
            metric.per_class()
        metric.update_state(np.zeros(0), np.zeros(0))


def test_no_label_at_all_is_data():
    metric = measured("f1_score", np.zeros((2, 3)), np.zeros((2, 3)), multi_label=True)
    assert metric.per_class().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"average": "mean"}, "average is 'mean'; expected one of binary, macro, micro, weighted"),
        ({"class_id": -1}, "class_id=-1: expected None or an int of at least 0"),
        ({"class_id": 1, "average": "macro"}, "Pass one of them"),
        ({"threshold": 1.5}, "threshold is 1.5; expected a probability"),
        ({"num_classes": 3, "average": "binary"}, "is for two classes; there are 3 classes"),
        (
            {"num_classes": 2, "average": "binary", "multi_label": True},
            "is for two classes; there are 2 labels",
        ),
        ({"num_classes": 3, "class_id": 3}, "class_id is 3; expected 0 to 2"),
        ({"num_classes": 1, "class_id": 2}, "class_id is 2; expected 0 to 1"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        tfdist.metrics.F1Score(**options)


def test_arguments_that_do_not_fit_the_first_batch():
    with pytest.raises(ValueError, match="there are 5 classes"):
        measured("f1_score", LABELS, LOGITS, average="binary", from_logits=True)
    with pytest.raises(ValueError, match="5 examples have labels that are none of 0 to 3"):
        measured("f1_score", [4] * 5, np.eye(4)[[0] * 5]).result()
