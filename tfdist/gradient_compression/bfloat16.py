"""Gradients as bfloat16 on the wire."""

import tensorflow as tf

from tfdist.gradient_compression.compressor import register
from tfdist.gradient_compression.half import HalfPrecision


@register
class BFloat16(HalfPrecision):
    """Halves the bytes: bfloat16 on the wire, sums in float32.

    bfloat16 has the range of float32 and 8 bits of precision: a relative error of at
    most 2^-9 for each contribution and 2^-9 for their mean. There is no error feedback
    and no state.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.BFloat16()
    >>> compressor.bytes_per_step([(1024, 1024)], num_replicas=2)
    2097152

    Args:
        min_elements: int, tensors with fewer elements are not compressed.
    """

    wire_dtype = tf.bfloat16
