import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve

import tfdist

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 300)
LOGITS = (RANDOM.normal(size=(300, 3)) * 2.0).astype("float32")


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.ExpectedCalibrationError(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


def check(metric, right, confidence, repeats=None, num_bins=15):
    """Against scikit-learn's curve, of examples that are repeated instead of weighted."""
    confidence = np.float64(confidence)
    if repeats is not None:
        right, confidence = np.repeat(right, repeats), np.repeat(confidence, repeats)
    true, predicted = calibration_curve(right, confidence, n_bins=num_bins)
    mine = metric.curve()
    np.testing.assert_allclose(mine[0], predicted, rtol=1e-12)
    np.testing.assert_allclose(mine[1], true, rtol=1e-12)
    ends = np.linspace(0.0, 1.0, num_bins + 1)
    counts, _ = np.histogram(-confidence, -ends[::-1])  # a bin has its upper end
    np.testing.assert_allclose(mine[2], counts[::-1][counts[::-1] > 0], rtol=1e-12)
    exact = np.average(np.abs(true - predicted), weights=mine[2])
    assert float(metric.result()) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("repeats", [None, RANDOM.integers(1, 4, 300)], ids=["plain", "weighted"])
def test_one_column(repeats):
    labels, scores = LABELS % 2, RANDOM.random(300).astype("float32")
    check(measured(labels, scores, repeats), labels, scores, repeats)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 20))
def test_the_ends_of_bins(data, num_bins):
    size = data.draw(st.integers(1, 8))
    places = data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, num_bins)))
    labels = data.draw(hnp.arrays(np.int8, size, elements=st.integers(0, 1)))
    scores = np.float32(places / num_bins)
    if len(set(labels)) == 2:  # scikit-learn's curve takes the greater label for the positive one
        check(measured(labels, scores, num_bins=num_bins), labels, scores, num_bins=num_bins)


@pytest.mark.parametrize("from_logits", [False, True])
def test_several_columns_are_of_the_highest(from_logits):
    exps = np.exp(np.float64(LOGITS))
    scores = exps / exps.sum(1, keepdims=True)
    right = LOGITS.argmax(1) == LABELS
    if from_logits:
        check(measured(LABELS, LOGITS, from_logits=True), right, scores.max(1))
    else:
        check(measured(LABELS, np.float32(scores)), right, np.float32(scores).max(1))


def test_multi_label_puts_all_columns_together():
    labels, scores = RANDOM.integers(0, 2, (300, 3)), RANDOM.random((300, 3)).astype("float32")
    together = measured(labels.reshape(-1), scores.reshape(-1))
    metric = measured(labels, scores, multi_label=True)
    assert float(metric.result()) == pytest.approx(float(together.result()), abs=1e-12)
    assert metric.curve()[2].sum() == pytest.approx(300.0)


def test_sequences_with_a_mask():
    labels, scores = LABELS.reshape(30, 10) % 2, RANDOM.random((30, 10, 1)).astype("float32")
    mask = RANDOM.random((30, 10)) < 0.6
    check(measured(labels, scores, mask), labels[mask], scores[mask, 0])


def test_without_data():
    metric = tfdist.metrics.ExpectedCalibrationError()
    for _ in range(2):
        assert metric.result() == 0.0
        with pytest.raises(ValueError, match="expected_calibration_error has seen no data"):
            metric.curve()
        metric.update_state(np.zeros(0), np.zeros(0))


def test_bad_input():
    with pytest.raises(ValueError, match="num_bins=0: expected an int of at least 1"):
        tfdist.metrics.ExpectedCalibrationError(num_bins=0)
    with pytest.raises(ValueError, match="1 examples have scores outside of 0 to 1"):
        measured([0, 1], [0.5, 1.5]).result()
    assert np.isnan(measured([0, 1], [0.5, np.nan]).result())
