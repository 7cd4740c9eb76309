"""Gradients as 8-bit integers on the wire, rounded at random."""

import math
from typing import Any

import tensorflow as tf

from tfdist.arguments import integer
from tfdist.gradient_compression import packing, traffic, two_phases
from tfdist.gradient_compression.compressor import Compressor, register

# Levels on either side of 0; so little less than 127 that no float32 rounding exceeds it.
LEVELS = 127 * (1 - 2**-21)
# Of a smaller largest element `LEVELS / scale` overflows float32.
_SMALLEST_SCALE = 1e-36


@register
class Int8(Compressor):
    """A quarter of the bytes: 8-bit integers with stochastic rounding.

    Each tensor has one scale, the largest absolute element that any replica has, on
    which the replicas agree first. An element is rounded up or down at random so that
    its expected value is itself, once on each replica and once more as mean, by the same
    scale: the mean is unbiased (but for the 16 bits of the random numbers, 2^-17 of a
    level) and its error is at most two levels, 2/127 of the scale. There is no error
    feedback. The random numbers follow from the seed and the number of the step: the
    same state gives the same mean. Elements of a tensor whose scale is below 1e-36
    become 0.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.Int8()
    >>> compressor.bytes_per_step([(1024, 1024)], num_replicas=2)
    1048580

    Args:
        seed: int.
        min_elements: int, tensors with fewer elements are not compressed.

    Reference:
        QSGD (arXiv 1610.02132), with the largest element for the norm.
    """

    def __init__(self, seed: int = 0, min_elements: int = 1024) -> None:
        super().__init__(min_elements)
        self.seed = integer("seed", seed)

    def get_config(self) -> dict[str, Any]:
        return {"seed": self.seed, **super().get_config()}

    def _state_specs(self, gradients):
        return {"step": [tf.TensorSpec([], tf.int64)]}

    def _exchange(self, state, compressed, rest, communicator):
        (step,) = state["step"]
        rest, rest_finite = self._plain_mean(rest, communicator)
        scales, finite = _agree_on_scales(compressed, communicator)
        dtype = scales.dtype
        usable = scales >= _SMALLEST_SCALE
        factors = tf.where(usable, LEVELS / tf.where(usable, scales, 1), tf.zeros([], dtype))
        # multiply_no_nan: what is not finite must not be cast to integers.
        vector = packing.pack(
            [tf.math.multiply_no_nan(g, f) for g, f in zip(compressed, tf.unstack(factors))]
        )

        def encode(values, phase):
            seed = self._random_seed(step, phase, communicator)
            return tf.cast(tf.floor(values + noise(seed, values.shape, dtype)), tf.int8)

        means = packing.unpack(two_phases.mean(vector, encode, communicator), compressed)
        means = [m * s for m, s in zip(means, tf.unstack(scales / LEVELS))]
        return means, rest, {"step": [step + 1]}, finite & rest_finite

    def _random_seed(self, step, phase, communicator):
        """Differs between steps, phases and replicas: independent roundings."""
        n = communicator.num_replicas
        stream = step * (2 * n) + phase * n + tf.cast(communicator.replica_id, tf.int64)
        return tf.stack([tf.constant(self.seed, tf.int64), stream])

    def _compressed_bytes(self, shapes, num_replicas, dtype_bytes):
        size = sum(math.prod(shape) for shape in shapes)
        scales = traffic.all_gather_bytes(len(shapes) * dtype_bytes, num_replicas)
        return scales + two_phases.bytes_sent(size, num_replicas, 1)


def noise(seed, shape, dtype):
    """Uniform random numbers in (0, 1), 16 bits each: half the work of TensorFlow's floats.

    Args:
        seed: int64 tensor of shape (2,).
        shape: the wanted shape.
        dtype: float32 or float64.
    """
    size = math.prod(shape)
    bits = tf.random.stateless_uniform(
        [-(-size // 2)], seed, minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    halves = tf.reshape(tf.bitcast(bits, tf.uint16), [-1])[:size]
    return tf.reshape((tf.cast(halves, dtype) + 0.5) * 2.0**-16, shape)


def _agree_on_scales(gradients, communicator):
    """The largest absolute element of each tensor over all replicas, in one message.

    Returns:
        `(scales, finite)`: a vector with an entry a tensor, 0 for all if any replica has
        an element that is not finite; and whether none has.
    """
    largest = tf.stack([tf.reduce_max(tf.abs(gradient)) for gradient in gradients])
    # A maximum may overlook NaN.
    largest = tf.where(packing.all_finite(gradients), largest, float("nan"))
    (gathered,) = communicator.all_gather([largest])
    gathered = tf.reshape(gathered, [communicator.num_replicas, len(gradients)])
    finite = packing.all_finite([gathered])
    return tf.where(finite, tf.reduce_max(gathered, 0), tf.zeros_like(largest)), finite
