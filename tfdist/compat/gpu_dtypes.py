"""Sums on GPUs of what TensorFlow's collectives refuse to sum there.

Needs: `tensorflow.python.distribute.values.PerReplica`.
Why: on GPUs they end with an error at int32 and at bfloat16, when the step runs. What they
take is wider, so that the sum is as exact: int64, and float32 with one rounding behind it.
"""

import tensorflow as tf
from tensorflow.python.distribute.values import PerReplica

_WIDER = {tf.int32: tf.int64, tf.bfloat16: tf.float32}


def is_on_gpus(strategy):
    """Whether the replicas of `strategy` are on GPUs."""
    return any("GPU" in device for device in strategy.extended.worker_devices)


def summed(function, value):
    """`function(value)`, in wider dtypes where a GPU's collectives need them.

    Args:
        function: sums what it is given over replicas, and keeps its structure and dtypes.
        value: nested tensors, `tf.IndexedSlices` and per-replica values.

    Returns:
        What `function` returns, in the dtypes of `value`.
    """
    parts = tf.nest.flatten(value)
    dtypes = [_dtype(part) for part in parts]
    wide = [_cast(part, _WIDER.get(dtype)) for part, dtype in zip(parts, dtypes)]
    results = tf.nest.flatten(function(tf.nest.pack_sequence_as(value, wide)))
    narrow = [
        _cast(result, dtype if dtype in _WIDER else None)
        for result, dtype in zip(results, dtypes, strict=True)
    ]
    return tf.nest.pack_sequence_as(value, narrow)


def _dtype(part):
    if isinstance(part, PerReplica):
        part = part.values[0]
    return part.dtype if isinstance(part, (tf.Tensor, tf.IndexedSlices)) else None


def _cast(part, dtype):
    if dtype is None:
        return part
    if isinstance(part, tf.IndexedSlices):
        return tf.IndexedSlices(tf.cast(part.values, dtype), part.indices, part.dense_shape)
    if isinstance(part, PerReplica):
        return PerReplica([tf.cast(value, dtype) for value in part.values])
    return tf.cast(part, dtype)
