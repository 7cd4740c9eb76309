"""Gradients as signs on the wire, with error feedback."""

import math

import numpy as np
import tensorflow as tf

from tfdist.gradient_compression import packing, traffic
from tfdist.gradient_compression.compressor import Compressor, register

# The eight signs, as -1 or 1, that each byte stands for; the first is the highest bit.
_SIGNS = 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) - 1.0
_BITS = 2.0 ** np.arange(7, -1, -1)
_SCALE_BYTES = 4


@register
class OneBit(Compressor):
    """One bit an element: the sign, and one scale a tensor; what is lost is kept.

    A replica sends sign(p) and the mean of |p| over the tensor, where p is its gradient
    plus the residual of the steps before, and keeps the difference as the next residual.
    All gather everyone's signs: the bytes grow with the number of replicas, (N - 1) / 32
    of the gradients' against 2 (N - 1) / N of an all-reduce. The scale crosses the wire
    as float32.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.OneBit()
    >>> compressor.bytes_per_step([(1024, 1024)], num_replicas=2)
    131076

    Args:
        min_elements: int, tensors with fewer elements are not compressed.

    Reference:
        EF-signSGD (arXiv 1901.09847), the scaled sign with error feedback.
    """

    def _state_specs(self, gradients):
        return {"residuals": self._specs_of_compressed(gradients)}

    def _exchange(self, state, compressed, rest, communicator):
        n, dtype = communicator.num_replicas, compressed[0].dtype
        rest, rest_finite = self._plain_mean(rest, communicator)
        corrected = [g + e for g, e in zip(compressed, state["residuals"])]
        # A scale is NaN or infinite if any element is.
        scales = tf.stack([tf.reduce_mean(tf.abs(each)) for each in corrected])
        scales = tf.cast(scales, tf.float32)
        vector = _pack_whole_bytes(corrected)
        signs = _signs_to_bytes(vector)
        message = tf.concat([signs, tf.reshape(tf.bitcast(scales, tf.uint8), [-1])], 0)
        (gathered,) = communicator.all_gather([message])
        gathered = tf.reshape(gathered, [n, message.shape[0]])
        all_signs, all_scales = tf.split(gathered, [signs.shape[0], -1], 1)
        all_scales = tf.bitcast(tf.reshape(all_scales, [n, -1, _SCALE_BYTES]), tf.float32)

        places = _places([_whole_bytes(size) for size in packing.sizes_of(corrected)])
        sent = _decode(signs, tf.cast(scales, dtype), places)
        parts = zip(tf.unstack(all_signs), tf.unstack(tf.cast(all_scales, dtype) / n))
        mean = tf.add_n([_decode(*part, places) for part in parts])
        state = {"residuals": _unpack_whole_bytes(vector - sent, corrected)}
        finite = packing.all_finite([all_scales]) & rest_finite
        return _unpack_whole_bytes(mean, corrected), rest, state, finite

    def _compressed_bytes(self, shapes, num_replicas, dtype_bytes):
        own = sum(_whole_bytes(math.prod(shape)) + _SCALE_BYTES for shape in shapes)
        return traffic.all_gather_bytes(own, num_replicas)


def _whole_bytes(size):
    """How many bytes hold `size` bits: each tensor begins at a byte of its own."""
    return -(-size // 8)


def _pack_whole_bytes(tensors):
    parts = []
    for tensor, size in zip(tensors, packing.sizes_of(tensors)):
        padding = 8 * _whole_bytes(size) - size
        parts += [tensor, tf.zeros([padding], tensor.dtype)] if padding else [tensor]
    return packing.pack(parts)


def _unpack_whole_bytes(vector, like):
    sizes = packing.sizes_of(like)
    parts = tf.split(vector, [8 * _whole_bytes(size) for size in sizes])
    return [tf.reshape(part[:size], each.shape) for part, size, each in zip(parts, sizes, like)]


def _signs_to_bytes(vector):
    """Eight elements a byte: a bit is 1 where an element is at least 0."""
    positive = tf.cast(tf.reshape(vector, [-1, 8]) >= 0, tf.float32)
    # Sums of distinct powers of two below 256 are exact in any float.
    return tf.cast(tf.linalg.matvec(positive, tf.constant(_BITS, tf.float32)), tf.uint8)


def _places(lengths):
    """For each byte where the table of its tensor begins; tensors have `lengths` bytes."""
    return tf.concat([tf.fill([length], 256 * i) for i, length in enumerate(lengths)], 0)


def _decode(signs, scales, places):
    """The vector that bytes of signs, and a scale a tensor, stand for.

    One look-up a byte, in a table of scaled signs for each tensor: to multiply eight
    elements at a time by their scale takes longer.
    """
    tables = scales[:, None, None] * tf.constant(_SIGNS, scales.dtype)
    elements = tf.gather(tf.reshape(tables, [-1, 8]), places + tf.cast(signs, tf.int32))
    return tf.reshape(elements, [-1])
