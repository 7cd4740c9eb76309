import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

import tfdist
from tfdist.evaluation.comparison import compare

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, 200)
GOOD = np.clip(RNG.normal(0.4 + 0.2 * Y, 0.15), 0, 1)
NOISY = np.clip(GOOD + RNG.normal(size=200) * 0.25, 0, 1)


def report_of(scores, labels=Y, **kwargs):
    return tfdist.evaluate(lambda x: x, (scores, labels), bootstrap=0, **kwargs)


def test_mcnemar_is_the_binomial_test():
    found = compare(report_of(GOOD), report_of(NOISY), bootstrap=0).mcnemar
    one, other = (GOOD >= 0.5) == Y, (NOISY >= 0.5) == Y
    only_first, only_second = (one & ~other).sum(), (~one & other).sum()
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert (found.both, found.neither) == ((one & other).sum(), (~one & ~other).sum())
    # Twice the tail of a fair coin.
    tail = stats.binom.cdf(min(only_first, only_second), only_first + only_second, 0.5)
    assert found.p_value == pytest.approx(min(1, 2 * tail))


def test_mcnemar_of_models_that_never_differ():
    found = compare(report_of(GOOD), report_of(GOOD), bootstrap=10)
    assert found.mcnemar.p_value == 1
    assert found.metrics["f1"][2:] == (0, 0, 0, 1)


def test_multilabel_counts_examples_with_all_labels_right():
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    first = report_of(labels * 0.8, labels, task="multilabel")
    wrong = np.array([[0.8, 0.8], [0, 0.8], [0.1, 0.1]])
    second = report_of(wrong, labels, task="multilabel")
    assert compare(first, second, bootstrap=0).mcnemar[:4] == (2, 0, 1, 0)


def test_differences_are_the_seconds_minus_the_firsts():
    found = compare(report_of(GOOD), report_of(NOISY), bootstrap=300).metrics["roc_auc"]
    expected = sk.roc_auc_score(Y, NOISY) - sk.roc_auc_score(Y, GOOD)
    assert found.difference == pytest.approx(expected)
    assert found.low < expected < found.high < 0
    assert found.p_value < 0.02


def test_the_interval_is_the_paired_one_of_scipy():
    difference = ((NOISY >= 0.5) == Y).astype(float) - ((GOOD >= 0.5) == Y)
    theirs = stats.bootstrap(
        (difference,), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    found = compare(report_of(GOOD), report_of(NOISY), bootstrap=4000).metrics["accuracy"]
    assert found.low == pytest.approx(theirs.low, abs=0.011)
    assert found.high == pytest.approx(theirs.high, abs=0.011)


def test_each_report_keeps_its_own_threshold():
    found = compare(report_of(GOOD), report_of(GOOD, threshold=0.6), bootstrap=20)
    assert found.metrics["recall"].second == sk.recall_score(Y, GOOD >= 0.6)
    assert found.mcnemar.only_first > 0


def test_its_forms(tmp_path):
    found = compare(report_of(GOOD), report_of(NOISY), bootstrap=20)
    lines = str(found).splitlines()
    assert lines[0] == "<lambda> against <lambda>: binary, 200 examples"
    assert lines[2].split() == ["metric", "first", "second", "difference", "95%", "interval", "p"]
    assert "McNemar's exact test: p = " in lines[-1]
    assert repr(found).startswith("<Comparison of <lambda> against")
    loaded = json.loads(found.to_json(tmp_path / "c.json"))
    assert loaded == found.to_dict() == json.loads((tmp_path / "c.json").read_text())
    assert loaded["metrics"]["f1"]["difference"] == found.metrics["f1"].difference
    found.to_html(tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "first: &lt;lambda&gt;" in page and "<lambda>" not in page
    assert "McNemar" in found._repr_html_()
    assert "interval" not in str(compare(found.first, found.second, bootstrap=0))


@pytest.mark.filterwarnings("ignore:The data hold no example")
def test_an_undefined_metric_has_no_difference():
    ones = np.ones(4, int)
    first = report_of(np.array([0.2, 0.6, 0.7, 0.8]), ones)
    found = compare(first, first, bootstrap=10)
    assert np.isnan(found.metrics["roc_auc"]).all()
    assert found.to_dict()["metrics"]["roc_auc"]["p_value"] is None


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: report_of(GOOD[:50], Y[:50]), "of 200 and of 50 examples"),
        (lambda: report_of(GOOD, 1 - Y), "different labels, first at example 0"),
        (
            lambda: report_of(GOOD, sample_weight=np.r_[np.ones(199), 2]),
            "weights, first at exa.* 199",
        ),
        (lambda: report_of(np.full((200, 3), 1 / 3), np.arange(200) % 3), "of a multiclass task"),
        (lambda: 0.7, "Received a float as the second report"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        compare(report_of(GOOD), make())


def test_resampling_is_checked():
    with pytest.raises(ValueError, match="bootstrap=-1"):
        compare(report_of(GOOD), report_of(GOOD), bootstrap=-1)
