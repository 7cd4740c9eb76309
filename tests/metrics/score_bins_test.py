import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfdist.metrics.score_bins import ScoreBins

SIZES = {"probabilities": (False, 121_220), "logits": (True, 76_546)}
VARIANTS = [(False, None), (True, None), (False, 1000), (True, 1000), (False, 2)]


def of_probabilities():
    return st.floats(0.0, 1.0, width=32)


def any_scores(from_logits):
    return st.floats(width=32, allow_nan=False) if from_logits else of_probabilities()


@pytest.mark.parametrize("name", SIZES)
def test_size(name):
    from_logits, size = SIZES[name]
    assert ScoreBins(from_logits).size == size


@pytest.mark.parametrize("from_logits, most", VARIANTS)
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_greater_score_is_never_in_a_lower_bin(from_logits, most, data):
    scores = data.draw(hnp.arrays(np.float32, 64, elements=any_scores(from_logits)))
    bins = ScoreBins(from_logits, most)
    found = bins(tf.constant(np.sort(scores))).numpy()
    assert np.all(np.diff(found) >= 0)
    assert found[0] >= 0 and found[-1] < bins.size


@pytest.mark.parametrize("from_logits", [False, True])
def test_neighbouring_floats_keep_their_order_around_every_edge(from_logits):
    bins = ScoreBins(from_logits)
    edges = np.float32(bins.lowest_scores())
    near = [edges, np.nextafter(edges, np.float32(-1e30)), np.nextafter(edges, np.float32(1e30))]
    scores = np.unique(np.concatenate(near))
    if not from_logits:
        scores = scores[(scores >= 0.0) & (scores <= 1.0)]
    found = bins(tf.constant(scores)).numpy()
    assert np.all(np.diff(found) >= 0)
    compiled = tf.function(bins, jit_compile=True)(tf.constant(scores)).numpy()
    np.testing.assert_array_equal(compiled, found)


def test_logits_that_are_denormal_count_as_zero_on_every_device():
    tiny = np.float32([-1e-45, -1.1e-38, -0.0, 0.0, 1e-45, -np.finfo(np.float32).tiny])
    bins = ScoreBins(from_logits=True)(tf.constant(tiny)).numpy()
    assert list(bins - bins[3]) == [0, 0, 0, 0, 0, -1]


@pytest.mark.parametrize("from_logits, most", VARIANTS)
def test_lowest_scores_are_the_lowest_of_their_bins(from_logits, most):
    bins = ScoreBins(from_logits, most)
    lowest = bins.lowest_scores()
    assert lowest.shape == (bins.size,)
    found = bins(tf.constant(lowest, tf.float32)).numpy()
    before = np.nextafter(np.float32(lowest[1:]), np.float32(-np.inf))
    before[lowest[1:] == 0.0] = -1e-30  # denormal numbers may count as 0
    below = bins(tf.constant(before)).numpy()
    held = found == np.arange(bins.size)  # the others are empty: no float32 is in them
    assert np.all(below[held[1:]] < found[1:][held[1:]])
    assert np.all(found >= np.arange(bins.size))


def test_single_bins_hold_one_number():
    bins = ScoreBins()
    near_one = np.float32(1.0 - 2.0**-24 * np.arange(200_000))
    random = np.random.default_rng(0).random(200_000, np.float32)
    tiny = np.float32([0.0, 1e-45, 1e-40, 1e-38, 0.5])
    scores = np.unique(np.concatenate([near_one, random, tiny]))
    counts = np.bincount(bins(tf.constant(scores)).numpy(), minlength=bins.size)
    assert counts[bins.single()].max() == 1
    ties = bins.single()[bins(tf.constant([0.0, 0.5, 1.0, 1.0 - 2.0**-13])).numpy()]
    assert ties.all()


def test_the_pieces_are_fine_near_both_ends():
    # Log-uniform distances from 0 and from 1: what a bin holds is small, relative to them.
    distance = np.float32(2.0 ** -np.random.default_rng(0).uniform(1.0, 10.0, 10_000))
    for scores in (distance, np.float32(1.0) - distance):
        lowest = ScoreBins().lowest_scores()
        place = np.searchsorted(lowest, np.float64(scores), "right")
        width = lowest[np.minimum(place, len(lowest) - 1)] - lowest[place - 1]
        assert np.all(width <= distance / 2000)
