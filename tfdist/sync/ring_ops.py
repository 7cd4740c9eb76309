"""The ring as TensorFlow operations, in graphs and eagerly."""

import numpy as np
import tensorflow as tf


def all_reduce(ring, values):
    """Sums each value over all workers.

    Args:
        ring: a `tfdist.sync.ring.Ring`.
        values: list of numeric tensors, or `tf.IndexedSlices`.

    Returns:
        A list like `values`; the same bits on all workers. The rows of
        `tf.IndexedSlices` are those of all workers, one after the other.
    """
    results = [None] * len(values)
    dense = {}
    for position, value in enumerate(values):
        if isinstance(value, tf.IndexedSlices):
            results[position] = _gather_rows(ring, value)
        else:
            dense.setdefault(value.dtype, []).append(position)
    for positions in dense.values():
        summed = _sum(ring, [values[position] for position in positions])
        for position, total in zip(positions, summed):
            results[position] = total
    return results


def _sum(ring, tensors):
    # Stateful operations of a function run in the order of the program, so that
    # all workers make their calls in the same order.
    totals = tf.numpy_function(
        lambda *arrays: ring.all_reduce([np.asarray(array) for array in arrays]),
        tensors,
        [tensor.dtype for tensor in tensors],
    )
    # Eagerly a list of one comes back as the one.
    totals = [totals] if isinstance(totals, tf.Tensor) else totals
    return [_shaped(total, tensor.shape) for total, tensor in zip(totals, tensors)]


def _gather_rows(ring, slices):
    def gather(values, indices):
        workers = ring.all_gather([values, indices])
        return [np.concatenate(parts) for parts in zip(*workers)]

    values, indices = tf.numpy_function(
        gather, [slices.values, slices.indices], [slices.values.dtype, slices.indices.dtype]
    )
    values = _shaped(values, [None, *slices.values.shape[1:]])
    return tf.IndexedSlices(values, _shaped(indices, [None]), slices.dense_shape)


def _shaped(tensor, shape):
    tensor.set_shape(shape)
    return tensor
