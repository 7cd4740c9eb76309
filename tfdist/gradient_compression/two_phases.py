"""The mean over replicas of a vector that crosses the wire in few bits an element.

An all-reduce cannot sum 8-bit numbers without overflow, nor 16-bit ones without
rounding at every addition. Here each replica owns 1/N of the vector: it receives
everyone's share of it (all-to-all), sums in full precision, rounds once more and
gives its mean to all (all-gather). That is the traffic of the best all-reduce,
2 (N - 1) / N, with two roundings whatever N; and since only the owner sums, all
replicas have the same bits.
"""

import tensorflow as tf

from tfdist.gradient_compression import traffic


def mean(vector, encode, communicator):
    """The mean of `vector` over all replicas, rounded twice.

    Args:
        vector: float tensor of one dimension, of the same size on all replicas.
        encode: called as `encode(values, phase)` for phases 0 and 1; returns the
            values in the dtype of the wire. A cast takes them back.
        communicator: with `all_to_all` and `all_gather`.

    Returns:
        A tensor like `vector`; bit-identical on all replicas.
    """
    n, size = communicator.num_replicas, vector.shape[0]
    chunk = chunk_size(size, n)
    padded = tf.pad(vector, [[0, n * chunk - size]]) if n * chunk > size else vector
    rows = tf.reshape(padded, [n, chunk])
    (received,) = communicator.all_to_all([encode(rows, 0)])
    total = tf.reduce_sum(tf.cast(tf.reshape(received, [n, chunk]), vector.dtype), 0)
    (gathered,) = communicator.all_gather([encode(total / n, 1)])
    return tf.cast(tf.reshape(gathered, [n * chunk])[:size], vector.dtype)


def chunk_size(size, num_replicas):
    """How many elements each replica owns; those of the last may be padding."""
    return -(-size // num_replicas)


def bytes_sent(size, num_replicas, wire_bytes):
    """Bytes that a replica sends for the mean of `size` elements.

    Args:
        size: int, elements of the vector.
        num_replicas: int.
        wire_bytes: int, bytes an element on the wire.
    """
    own = chunk_size(size, num_replicas) * wire_bytes
    scattered = traffic.all_to_all_bytes(num_replicas * own, num_replicas)
    return scattered + traffic.all_gather_bytes(own, num_replicas)
