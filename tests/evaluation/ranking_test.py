import numpy as np
from sklearn import metrics as sk

from tfdist.evaluation.ranking import Ranking


def pairwise(scores, positive, weights):
    """The chance that a positive example has the higher score, pair by pair."""
    high, low = scores[positive == 1][:, None], scores[positive == 0][None]
    pairs = weights[positive == 1][:, None] * weights[positive == 0][None]
    return (pairs * ((high > low) + 0.5 * (high == low))).sum() / pairs.sum()


def test_each_weighting_gives_the_areas_of_its_own():
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 2, 60)
    scores = rng.integers(0, 15, 60) / 15
    weights = rng.integers(0, 4, (60, 7)).astype(float)
    roc, precision = Ranking(scores, positive).areas(weights)
    for column in range(7):
        w = weights[:, column]
        np.testing.assert_allclose(roc[column], pairwise(scores, positive, w), rtol=1e-12)
        expected = sk.average_precision_score(positive, scores, sample_weight=w)
        np.testing.assert_allclose(precision[column], expected, rtol=1e-12)


def test_a_weighting_without_a_class_has_no_area():
    weights = np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    roc, precision = Ranking(np.array([0.2, 0.8]), np.array([0, 1])).areas(weights)
    np.testing.assert_array_equal(roc, [1, np.nan, np.nan])
    np.testing.assert_array_equal(precision, [1, 1, np.nan])


def test_no_positives_at_all():
    roc, precision = Ranking(np.array([0.2, 0.8]), np.zeros(2)).areas(np.ones((2, 1)))
    assert np.isnan(roc).all() and np.isnan(precision).all()
