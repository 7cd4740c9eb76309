"""Against scikit-learn on the same labels and scores."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tfdist.evaluation.exact import Metrics, bins_of
from tfdist.evaluation.inputs import make_predictions

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
quickly = settings(max_examples=40, deadline=None, database=None)


def calculated(labels, scores, weights=None, threshold=0.5, **kwargs):
    predictions, _ = make_predictions(np.asarray(labels), np.asarray(scores), weights, **kwargs)
    values, table = Metrics(predictions, threshold)(predictions.weights[:, None])
    return {name: one[0] for name, one in values.items()}, table, predictions


def averages(labels, predicted, weights):
    return {
        f"{name}_{average}": getattr(sk, f"{name}_score")(
            labels, predicted, average=average, sample_weight=weights, zero_division=0
        )
        for name in ("precision", "recall", "f1")
        for average in ("macro", "micro", "weighted")
    }


def binary_by_scikit_learn(y, p, w, threshold=0.5):
    q, by = (p >= threshold).astype(int), {"sample_weight": w}
    return {
        "accuracy": sk.accuracy_score(y, q, **by),
        "balanced_accuracy": sk.balanced_accuracy_score(y, q, **by),
        "precision": sk.precision_score(y, q, zero_division=0, **by),
        "recall": sk.recall_score(y, q, zero_division=0, **by),
        "specificity": sk.recall_score(y, q, pos_label=0, zero_division=0, **by),
        "f1": sk.f1_score(y, q, zero_division=0, **by),
        "mcc": sk.matthews_corrcoef(y, q, **by),
        "roc_auc": sk.roc_auc_score(y, p, **by),
        "pr_auc": sk.average_precision_score(y, p, **by),
        "brier": sk.brier_score_loss(y, p, **by),
        "log_loss": sk.log_loss(y, p, labels=[0, 1], **by),
    }


def assert_equal(found, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name, **CLOSE)


@pytest.mark.parametrize("decimals", [1, 9])  # many ties, and none
@pytest.mark.parametrize("weighted", [False, True])
def test_binary(decimals, weighted):
    rng = np.random.default_rng(decimals)
    y = rng.integers(0, 2, 300)
    p = np.round(np.clip(rng.normal(0.4 + 0.2 * y, 0.25), 0, 1), decimals)
    w = rng.integers(1, 5, 300) / 2 if weighted else None
    found, _, _ = calculated(y, p, w, threshold=0.45)
    assert_equal(found, binary_by_scikit_learn(y, p, w, 0.45))
    assert set(found) == {*binary_by_scikit_learn(y, p, w), "ece"}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_multiclass(classes, weighted):
    rng = np.random.default_rng(classes)
    y = rng.integers(0, classes, 300)
    z = np.round(rng.normal(size=(300, classes)), 1)
    z[np.arange(300), y] += 1
    w = rng.integers(1, 5, 300) / 2 if weighted else None
    found, table, predictions = calculated(y, z, w, from_logits=True)
    p, by = predictions.scores, {"sample_weight": w}
    q, one_hot = p.argmax(axis=1), np.eye(classes)[y]
    expected = {
        "accuracy": sk.accuracy_score(y, q, **by),
        "balanced_accuracy": sk.balanced_accuracy_score(y, q, **by),
        "mcc": sk.matthews_corrcoef(y, q, **by),
        "roc_auc": sk.roc_auc_score(one_hot, p, **by),
        "pr_auc": sk.average_precision_score(one_hot, p, **by),
        "brier": ((p - one_hot) ** 2).sum(axis=1) @ (w if weighted else np.full(300, 1 / 300)),
        "log_loss": sk.log_loss(y, p, **by),
        **averages(y, q, w),
    }
    if weighted:
        expected["brier"] /= w.sum()
    if classes > 2:
        np.testing.assert_allclose(
            expected["roc_auc"], sk.roc_auc_score(y, p, multi_class="ovr", **by)
        )
        np.testing.assert_allclose(expected["brier"], sk.brier_score_loss(y, p, **by))
    assert_equal(found, expected)
    by_class = sk.precision_recall_fscore_support(y, q, sample_weight=w)
    for name, values in zip(("precision", "recall", "f1", "support"), by_class):
        np.testing.assert_allclose(table[name][:, 0], values, **CLOSE)


@pytest.mark.parametrize("weighted", [False, True])
def test_multilabel(weighted):
    rng = np.random.default_rng(1)
    y = (rng.random((300, 4)) < 0.3).astype(int)
    p = np.round(np.clip(0.3 + 0.3 * y + rng.normal(size=y.shape) * 0.2, 0, 1), 2)
    w = rng.integers(1, 5, 300) / 2 if weighted else None
    found, _, _ = calculated(y, p, w)
    q, by = (p >= 0.5).astype(int), {"sample_weight": w}

    def mean_over_labels(score, **kwargs):
        return np.mean([score(y[:, c], p[:, c], **kwargs, **by) for c in range(4)])

    assert_equal(
        found,
        {
            "exact_match": sk.accuracy_score(y, q, **by),
            "label_accuracy": 1 - sk.hamming_loss(y, q, **by),
            "roc_auc": sk.roc_auc_score(y, p, **by),
            "pr_auc": sk.average_precision_score(y, p, **by),
            "brier": mean_over_labels(sk.brier_score_loss),
            "log_loss": mean_over_labels(sk.log_loss, labels=[0, 1]),
            **averages(y, q, w),
        },
    )


@pytest.mark.parametrize("only", [0, 1])
def test_one_class_only_is_as_in_scikit_learn(only):
    y, p = np.full(4, only), np.array([0.1, 0.6, 0.4, 0.9])
    found, _, _ = calculated(y, p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = binary_by_scikit_learn(y, p, None)
    assert np.isnan(expected["roc_auc"]) and expected["pr_auc"] == only
    assert_equal(found, expected)


def test_a_class_that_does_not_occur_is_as_in_scikit_learn():
    y = np.array([0, 1, 1, 0])
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2]])
    found, _, _ = calculated(y, p)
    q, one_hot = p.argmax(axis=1), np.eye(3)[y]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "roc_auc": sk.roc_auc_score(y, p, multi_class="ovr", labels=[0, 1, 2]),
            "pr_auc": sk.average_precision_score(one_hot, p),
            "balanced_accuracy": sk.balanced_accuracy_score(y, q),
            "log_loss": sk.log_loss(y, p, labels=[0, 1, 2]),
            "brier": sk.brier_score_loss(y, p, labels=[0, 1, 2]),
            **averages(y, q, None),
        }
    assert np.isnan(expected["roc_auc"])
    assert_equal(found, expected)


def ece_by_hand(confidences, outcomes, weights):
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for m in range(15):
        inside = (confidences > m / 15) & (confidences <= (m + 1) / 15)
        if m == 0:
            inside |= confidences == 0
        if inside.any():
            of_bin = weights[inside]
            accuracy = np.average(outcomes[inside], weights=of_bin)
            confidence = np.average(confidences[inside], weights=of_bin)
            total += of_bin.sum() * abs(accuracy - confidence)
    return total / weights.sum()


def test_expected_calibration_error():
    rng = np.random.default_rng(2)
    w = rng.random(200) + 0.1
    y, p = rng.integers(0, 2, 200), rng.random(200)
    assert_equal(calculated(y, p, w)[0], {"ece": ece_by_hand(p, y, w)})
    y = rng.integers(0, 3, 200)
    p = rng.dirichlet(np.ones(3), 200)
    expected = ece_by_hand(p.max(axis=1), p.argmax(axis=1) == y, w)
    assert_equal(calculated(y, p, w)[0], {"ece": expected})
    y, p = rng.integers(0, 2, (200, 3)), rng.random((200, 3))
    expected = np.mean([ece_by_hand(p[:, c], y[:, c], w) for c in range(3)])
    assert_equal(calculated(y, p, w)[0], {"ece": expected})


def test_bins_hold_their_upper_edge():
    np.testing.assert_array_equal(bins_of(np.array([0, 0.5, 0.500001, 1]), bins=2), [0, 0, 1, 1])


examples = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20), st.integers(1, 3)), min_size=2, max_size=40
).filter(lambda rows: len({row[0] for row in rows}) == 2)


@quickly
@given(examples)
def test_weighted_binary_metrics_of_any_data(rows):
    y, p, w = (np.array(column) for column in zip(*rows))
    found, _, _ = calculated(y, p / 20, w)
    assert_equal(found, binary_by_scikit_learn(y, p / 20, w))


@quickly
@given(examples)
def test_metrics_lie_within_their_bounds(rows):
    y, p, w = (np.array(column) for column in zip(*rows))
    found, _, _ = calculated(y, p / 20, w)
    for name, value in found.items():
        if name == "log_loss":
            assert 0 <= value < 36.1  # -log of the float64 epsilon
        else:
            assert (-1 if name == "mcc" else 0) - 1e-12 <= value <= 1 + 1e-12, name


@quickly
@given(examples, st.randoms(use_true_random=False))
def test_a_weight_of_two_is_an_example_twice_in_any_order(rows, random):
    y, p, w = (np.array(column) for column in zip(*rows))
    weighted, _, _ = calculated(y, p / 20, w)
    repeated = [row[:2] for row in rows for _ in range(row[2])]
    random.shuffle(repeated)
    y, p = (np.array(column) for column in zip(*repeated))
    assert_equal(calculated(y, p / 20)[0], weighted)


@quickly
@given(st.lists(st.tuples(st.integers(0, 2), *[st.integers(1, 9)] * 3), min_size=1, max_size=30))
def test_multiclass_metrics_of_any_data(rows):
    rows = np.array(rows)
    y, p = rows[:, 0], rows[:, 1:] / rows[:, 1:].sum(axis=1, keepdims=True)
    found, _, _ = calculated(y, p)
    q = p.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "accuracy": sk.accuracy_score(y, q),
            "balanced_accuracy": sk.balanced_accuracy_score(y, q),
            "mcc": sk.matthews_corrcoef(y, q),
            "log_loss": sk.log_loss(y, p, labels=[0, 1, 2]),
            **averages(y, q, None),
        }
    assert_equal(found, expected)
