import time

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from tfdist.evaluation.bootstrap import draw, interval, p_value, resamples
from tfdist.evaluation.exact import Metrics
from tfdist.evaluation.inputs import make_predictions


def made(n=200, seed=0, weights=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    p = np.clip(rng.normal(0.4 + 0.2 * y, 0.2), 0, 1)
    return make_predictions(y, p, weights)[0]


def drawn(predictions, count, seed=0):
    return draw([Metrics(predictions)], predictions.weights, count, seed)[0]


def test_a_resample_draws_as_many_examples_with_replacement():
    (block,) = resamples(np.ones(50), 20, seed=3)
    assert block.shape == (50, 20)
    np.testing.assert_array_equal(block.sum(axis=0), 50)
    assert (block == 0).any() and (block > 1).any()
    (weighted,) = resamples(np.full(50, 2.0), 20, seed=3)
    np.testing.assert_array_equal(weighted, 2 * block)


def test_the_resamples_depend_on_the_seed_alone(monkeypatch):
    (whole,) = resamples(np.ones(50), 20, seed=3)
    monkeypatch.setattr("tfdist.evaluation.bootstrap._BLOCK", 350)
    blocks = list(resamples(np.ones(50), 20, seed=3))
    assert [block.shape[1] for block in blocks] == [7, 7, 6]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    (other,) = resamples(np.ones(50), 5, seed=4)
    assert (other != whole[:, :5]).any()


def test_every_resample_has_the_metrics_of_its_examples():
    predictions = made(60)
    values = drawn(predictions, 5)
    (block,) = resamples(predictions.weights, 5, 0)
    for column, counts in enumerate(block.T):
        some = np.repeat(np.arange(60), counts.astype(int))
        y, p = predictions.labels[some], predictions.scores[some]
        for name, expected in {
            "f1": sk.f1_score(y, p >= 0.5),
            "mcc": sk.matthews_corrcoef(y, p >= 0.5),
            "roc_auc": sk.roc_auc_score(y, p),
            "pr_auc": sk.average_precision_score(y, p),
            "brier": sk.brier_score_loss(y, p),
        }.items():
            np.testing.assert_allclose(values[name][column], expected, rtol=1e-10, err_msg=name)


def test_the_interval_of_accuracy_is_that_of_scipy():
    predictions = made(300)
    correct = predictions.correct(0.5).astype(float)
    low, high = interval(drawn(predictions, 4000)["accuracy"], 0.9)
    theirs = stats.bootstrap(
        (correct,), np.mean, confidence_level=0.9, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert low == pytest.approx(theirs.low, abs=0.008)
    assert high == pytest.approx(theirs.high, abs=0.008)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    # Scores are the truth's own: P(score of a positive > score of a negative) is known.
    truth = stats.norm.cdf(1 / np.sqrt(2))
    held = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 200)
        predictions, _ = make_predictions(y, rng.normal(size=200) + y, from_logits=True)
        low, high = interval(drawn(predictions, 200, seed)["roc_auc"], 0.9)
        held += low <= truth <= high
    # Binomial(120, 0.9): 99 to 117 but for one time in a thousand.
    assert 97 <= held <= 119


def test_resamples_without_a_class_are_left_out():
    predictions, _ = make_predictions([0, 0, 1], np.array([0.1, 0.3, 0.8]))
    values = drawn(predictions, 200)["roc_auc"]
    assert np.isnan(values).any()
    assert interval(values, 0.95) == (1.0, 1.0)
    assert np.isnan(interval(np.full(3, np.nan), 0.95)).all()


def test_a_rare_class_still_has_intervals():
    y = np.r_[np.zeros(30, int), np.ones(30, int), 2]
    p = np.random.default_rng(0).dirichlet(np.ones(3), 61)
    predictions, _ = make_predictions(y, p)
    assert np.isfinite(drawn(predictions, 100)["roc_auc"]).all()


def test_p_values():
    assert p_value(np.array([1.0, 2.0, 3.0])) == 0.5  # 2 * (0 + 1) / (3 + 1)
    assert p_value(np.r_[np.full(996, 1.0), np.full(3, -1.0)]) == pytest.approx(8 / 1000)
    assert p_value(np.zeros(9)) == 1
    assert np.isnan(p_value(np.array([np.nan])))


def test_a_thousand_resamples_of_ten_thousand_examples_take_seconds():
    predictions = made(10_000)
    metrics = Metrics(predictions)
    begin = time.process_time()
    draw([metrics], predictions.weights, 1000, 0)
    assert time.process_time() - begin < 10  # some 0.5 s on an idle machine
