"""Gradients in half precision on the wire."""

import math

import tensorflow as tf

from tfdist.gradient_compression import packing, two_phases
from tfdist.gradient_compression.compressor import Compressor


class HalfPrecision(Compressor):
    """Sends 16 bits an element and sums in full precision.

    Every contribution is rounded once, and their mean once more; the sum is in float32
    (float64 for float64 gradients). A subclass says which `wire_dtype`.
    """

    wire_dtype = None

    def _exchange(self, state, compressed, rest, communicator):
        rest, finite = self._plain_mean(rest, communicator)
        vector = two_phases.mean(
            packing.pack(compressed),
            lambda values, phase: tf.cast(values, self.wire_dtype),
            communicator,
        )
        # NaN and infinity cross the wire as such, and there is no state to guard.
        return packing.unpack(vector, compressed), rest, state, finite

    def _compressed_bytes(self, shapes, num_replicas, dtype_bytes):
        size = sum(math.prod(shape) for shape in shapes)
        return two_phases.bytes_sent(size, num_replicas, self.wire_dtype.size)
