"""The ring as TensorFlow operations, in graphs and eagerly."""

import numpy as np
import tensorflow as tf


def all_reduce(ring, values, op="sum"):
    """Reduces each value over all workers.

    Args:
        ring: a `tfdist.sync.ring.Ring`.
        values: list of numeric tensors, or (of sums) `tf.IndexedSlices`.
        op: "sum", "max" or "min".

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
        reduced = _reduce(ring, [values[position] for position in positions], op)
        for position, total in zip(positions, reduced):
            results[position] = total
    return results


def group_sum(ring, values, groups):
    """Sums each value over the workers of this one's group.

    Args:
        ring: a `tfdist.sync.ring.Ring`.
        values: list of numeric tensors of one dtype.
        groups: int tensor of shape `(workers,)`, the number of each worker's group.

    Returns:
        A list like `values`; the same bits on all workers of a group.
    """

    def reduce(groups, *arrays):
        members = np.flatnonzero(groups == groups[ring.index]).tolist()
        return ring.all_reduce([np.asarray(array) for array in arrays], members)

    sums = _numpy_function(reduce, [groups, *values], [value.dtype for value in values])
    return _shaped_as(sums, values)


def all_gather(ring, values):
    """Stacks each value of all workers; the shapes must be the same on all.

    Returns:
        A list of tensors of shapes `(workers, *shape)`, in the order of the workers.
    """

    def gather(*arrays):
        workers = ring.all_to_all([[np.asarray(array) for array in arrays]] * ring.size)
        return [np.stack(parts) for parts in zip(*workers)]

    stacked = _numpy_function(gather, values, [value.dtype for value in values])
    return _shaped_as(stacked, values, [ring.size])


def all_to_all(ring, values):
    """Row i of each value goes to worker i; row i of the result came from worker i."""

    def swap(*arrays):
        rows = zip(*[np.asarray(array) for array in arrays])
        workers = ring.all_to_all([list(row) for row in rows])
        return [np.stack(parts) for parts in zip(*workers)]

    return _shaped_as(_numpy_function(swap, values, [v.dtype for v in values]), values)


def _numpy_function(function, tensors, dtypes):
    """`tf.numpy_function` of a function that returns a list of arrays."""
    if tf.executing_eagerly():
        # TensorFlow's cannot hand over a scalar of bfloat16.
        tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
        arrays = function(*[np.asarray(tensor.numpy()) for tensor in tensors])
        return [tf.convert_to_tensor(array) for array in arrays]
    return tf.numpy_function(function, tensors, dtypes)


def _shaped_as(results, values, leading=()):
    return [_shaped(result, [*leading, *value.shape]) for result, value in zip(results, values)]


def _reduce(ring, tensors, op):
    # Stateful operations of a function run in the order of the program, so that
    # all workers make their calls in the same order.
    totals = _numpy_function(
        lambda *arrays: ring.all_reduce([np.asarray(array) for array in arrays], op=op),
        tensors,
        [tensor.dtype for tensor in tensors],
    )
    return _shaped_as(totals, tensors)


def _gather_rows(ring, slices):
    def gather(values, indices):
        workers = ring.all_gather([values, indices])
        return [np.concatenate(parts) for parts in zip(*workers)]

    values, indices = _numpy_function(
        gather, [slices.values, slices.indices], [slices.values.dtype, slices.indices.dtype]
    )
    values = _shaped(values, [None, *slices.values.shape[1:]])
    return tf.IndexedSlices(values, _shaped(indices, [None]), slices.dense_shape)


def _shaped(tensor, shape):
    tensor.set_shape(shape)
    return tensor
