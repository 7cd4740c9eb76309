"""Which weights go together, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.model_compression import NM, Block, Weight

SCORES = np.random.default_rng(0).random((8, 6)).astype("float32")


def kept_of(structure, scores, zeros):
    """The mask, with the `zeros` smallest groups gone."""
    groups = structure.groups(tf.constant(scores)).numpy()
    stays = np.ones(len(groups), bool)
    stays[np.argsort(groups, kind="stable")[:zeros]] = False
    return structure.spread(tf.constant(stays), scores.shape).numpy()


def test_weights():
    mask = kept_of(Weight(), SCORES, 20)
    assert mask.sum() == 28 and SCORES[mask].min() > SCORES[~mask].max()


@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (1, 2), (4, 8)])
def test_n_of_m(n, m):
    structure = NM(n, m)
    mask = kept_of(structure, SCORES, round(structure.fixed * SCORES.size))
    for output in range(6):
        for start in range(0, 8, m):
            part = SCORES[start : start + m, output]
            best = np.sort(part)[m - n]
            np.testing.assert_array_equal(mask[start : start + m, output], part >= best)


def test_n_of_m_of_equal_scores():
    mask = kept_of(NM(2, 4), np.zeros((8, 3), "float32"), 12)
    np.testing.assert_array_equal(mask.reshape(2, 4, 3).sum(1), 2)


@pytest.mark.parametrize("inputs, outputs", [(4, 1), (2, 3), (8, 6), (1, 2)])
def test_blocks(inputs, outputs):
    structure = Block(inputs, outputs)
    count = SCORES.size // (inputs * outputs)
    mask = kept_of(structure, SCORES, count // 2)
    means = {}
    for row in range(0, 8, inputs):
        for column in range(0, 6, outputs):
            part = slice(row, row + inputs), slice(column, column + outputs)
            assert mask[part].all() or not mask[part].any()
            means.setdefault(bool(mask[part].all()), []).append(SCORES[part].mean())
    assert len(means.get(False, [])) == count // 2
    assert not means.get(False) or max(means[False]) < min(means[True])


def test_what_a_shape_cannot_have():
    assert NM(2, 4).refusal((27, 16)) == "27 inputs are no multiple of 4, as 2:4 needs"
    assert NM(2, 4).refusal((28, 16)) is None
    assert "no whole number of blocks of 4 x 1" in Block().refusal((27, 16))
    assert Weight().refusal((27, 1)) is None
    with pytest.raises(ValueError, match="expected n smaller than m"):
        NM(4, 4)


def test_what_has_gone_goes_first_whatever_the_scores_are():
    gone = SCORES < 0.3
    scores = np.where(gone, -np.inf, SCORES - 2).astype("float32")  # negative ones, as movement's
    assert not kept_of(Weight(), scores, int(gone.sum()))[gone].any()
    groups = Block(2, 1).groups(tf.constant(scores)).numpy()
    pairs, dead = scores.reshape(4, 2, 6), gone.reshape(4, 2, 6)
    expected = np.where(dead, 0, pairs).mean(1)
    np.testing.assert_allclose(groups, np.where(dead.all(1), -np.inf, expected).ravel(), rtol=1e-6)
    assert dead.all(1).any() and (dead.any(1) & ~dead.all(1)).any()
    mask = kept_of(NM(1, 2), scores, 24).reshape(4, 2, 6)
    assert not (mask & dead)[~dead.all(1)[:, None].repeat(2, 1)].any()
