"""Many tensors as one vector: few operations, and one message instead of many."""

import math

import tensorflow as tf


def sizes_of(tensors):
    """The numbers of elements, as ints, of tensors whose shapes are known."""
    return [math.prod(tensor.shape) for tensor in tensors]


def pack(tensors):
    """All elements of `tensors`, a list of at least one, as one vector."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)


def unpack(vector, like):
    """Undoes `pack`.

    Args:
        vector: tensor of one dimension; what is behind the last tensor is left out.
        like: list of tensors (or of anything with a `.shape`) of the wanted shapes.

    Returns:
        A list of tensors.
    """
    sizes = sizes_of(like)
    parts = tf.split(vector[: sum(sizes)], sizes)
    return [tf.reshape(part, each.shape) for part, each in zip(parts, like)]


def all_finite(tensors):
    """Scalar bool tensor: whether no element of a list of tensors is infinite or NaN."""
    if not tensors:
        return tf.constant(True)
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(each)) for each in tensors]))
