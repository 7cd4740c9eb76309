"""Gradients as float16 on the wire."""

import tensorflow as tf

from tfdist.gradient_compression.compressor import register
from tfdist.gradient_compression.half import HalfPrecision


@register
class Float16(HalfPrecision):
    """Halves the bytes: float16 on the wire, sums in float32.

    float16 has 11 bits of precision, a relative error of at most 2^-12 for each
    contribution and 2^-12 for their mean, but a narrow range. What is beyond 65504
    becomes infinity, never a wrong number: the mean is then infinite or NaN on all
    replicas, `keras.optimizers.LossScaleOptimizer` skips the step and lowers its scale,
    and without it the loss becomes NaN. The sum of many contributions cannot overflow
    where the contributions do not. What is below 6e-8 becomes 0, so use it with a loss
    scale; `BFloat16` needs none. There is no error feedback and no state.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.Float16()
    >>> compressor.bytes_per_step([(1024, 1024)], num_replicas=2)
    2097152

    Args:
        min_elements: int, tensors with fewer elements are not compressed.
    """

    wire_dtype = tf.float16
