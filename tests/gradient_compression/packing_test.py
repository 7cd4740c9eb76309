import numpy as np
import pytest
import tensorflow as tf

from tfdist.gradient_compression import packing

TENSORS = [np.arange(6.0).reshape(2, 3), np.array(6.0), np.zeros((0, 4)), np.array([7.0, 8.0])]


def test_pack_and_back():
    vector = packing.pack([tf.constant(t) for t in TENSORS])
    np.testing.assert_array_equal(vector, np.arange(9.0))
    padded = tf.concat([vector, [99.0, 99.0]], 0)
    for value in (vector, padded):
        for tensor, original in zip(packing.unpack(value, TENSORS), TENSORS):
            assert tensor.shape == original.shape
            np.testing.assert_array_equal(tensor, original)


def test_sizes():
    assert packing.sizes_of(TENSORS) == [6, 1, 0, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_all_finite(bad):
    assert packing.all_finite([])
    assert packing.all_finite([tf.constant(t) for t in TENSORS])
    assert not packing.all_finite([tf.constant(TENSORS[0]), tf.constant([1.0, bad])])
