"""Each allocation against its paper's equation, in NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfdist.model_compression import LAMP, ErdosRenyi, Global, Uniform

# A small convolutional network: windows, inputs, outputs.
SHAPES = [(3, 3, 3, 16), (3, 3, 16, 32), (1152, 64), (64, 10)]
SIZES = np.array([math.prod(shape) for shape in SHAPES])


def test_uniform():
    assert Uniform().sparsities(SHAPES, 0.7) == [0.7] * 4


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.98])
def test_erdos_renyi(sparsity):
    found = np.array(ErdosRenyi().sparsities(SHAPES, sparsity))
    assert np.sum(found * SIZES) == pytest.approx(sparsity * SIZES.sum())

    # Another way to find epsilon: by halving, with densities cut at 1.
    def densities(epsilon):
        raw = [epsilon * sum(shape) / math.prod(shape) for shape in SHAPES]
        return np.minimum(1.0, raw)

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        kept = np.sum(densities(middle) * SIZES)
        low, high = (middle, high) if kept < (1 - sparsity) * SIZES.sum() else (low, middle)
    np.testing.assert_allclose(1 - found, densities(low), atol=1e-9)


def test_lamp():
    scores = [np.random.default_rng(i).random(size) for i, size in enumerate((7, 20))]
    found = LAMP().comparable([tf.constant(score) for score in scores])
    for score, lamp in zip(scores, found):
        expected = [s**2 / np.sum(score[score >= s] ** 2) for s in score]
        np.testing.assert_allclose(lamp, expected, rtol=1e-12)
        assert np.max(lamp) == 1.0


def test_lamp_of_what_is_gone():
    lamp = LAMP().comparable([tf.constant([0.0, 0.0, 2.0], tf.float64)])[0]
    np.testing.assert_allclose(lamp, [0.0, 0.0, 1.0])
    assert np.all(np.isfinite(LAMP().comparable([tf.zeros([3])])[0]))


def test_which_compete():
    assert Global().joint and LAMP().joint and not Uniform().joint and not ErdosRenyi().joint
