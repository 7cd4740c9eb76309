"""Sums on GPUs of what TensorFlow's collectives refuse to sum there.

Needs: `CollectiveAllReduce._launchers` with their `all_reduce` and `_device`, through which
all sums of dense tensors go; and `MirroredExtended._collective_ops`.
Why: on GPUs they end with an error at int32 and at bfloat16, when the step runs. What they
take is wider, so that the sum is as exact: int64, and float32 with one rounding behind it.
"""

import tensorflow as tf
from tensorflow.python.distribute.cross_device_ops import CollectiveAllReduce
from tensorflow.python.distribute.cross_device_utils import CollectiveReplicaLauncher

from tfdist.compat.replacing import note

note(
    __name__,
    CollectiveReplicaLauncher,
    "on the launchers of a tfdist strategy's collectives",
    all_reduce=("on GPUs, with int32 and bfloat16", "sums in int64 and float32"),
)

_WIDER = {tf.int32: tf.int64, tf.bfloat16: tf.float32}


def is_on_gpus(strategy):
    """Whether the replicas of `strategy` are on GPUs."""
    return any("GPU" in device for device in strategy.extended.worker_devices)


def widen(strategy):
    """Makes the collectives of `strategy` sum in wider dtypes where GPUs need them."""
    extended = strategy.extended
    names = ("_cross_device_ops", "_collective_ops")  # often the same ones
    for collectives in {getattr(extended, name, None) for name in names}:
        if isinstance(collectives, CollectiveAllReduce):
            for launcher in collectives._launchers:
                launcher.all_reduce = _widened(launcher)


def _widened(launcher):
    original = launcher.all_reduce

    def all_reduce(input_tensor, *args, **kwargs):
        dtype = input_tensor.dtype
        if dtype not in _WIDER:
            return original(input_tensor, *args, **kwargs)
        with tf.device(launcher._device):
            total = original(tf.cast(input_tensor, _WIDER[dtype]), *args, **kwargs)
            return tf.cast(total, dtype)

    return all_reduce
