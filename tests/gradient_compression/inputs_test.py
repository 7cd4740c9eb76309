"""Gradients that compressors do not accept."""

import compression_cases as cases
import pytest
import tensorflow as tf

from tfdist.gradient_compression import BFloat16


def test_reduce_says_what_is_wrong_with_gradients():
    compressor = BFloat16()
    sparse = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([0]), tf.constant([4, 2]))
    with pytest.raises(ValueError, match=r"IndexedSlices.*convert_to_tensor"):
        compressor.reduce({}, [sparse], cases.Alone())
    for dtype in (tf.float16, tf.int32, tf.complex64):
        with pytest.raises(ValueError, match=f"dtype {dtype.name} was received.*Cast it first"):
            compressor.reduce({}, [tf.zeros([2], dtype)], cases.Alone())

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def unknown(gradient):
        return compressor.reduce({}, [gradient], cases.Alone())[0]

    with pytest.raises(ValueError, match=r"\(None,\) was received.*ensure_shape"):
        unknown(tf.zeros([3]))
