"""Replicas on the devices of one machine."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from tfdist.compat import strategy as engine
from tfdist.strategies.mirrored_engine import MirroredEngine


class MirroredStrategy(MirroredEngine, tf.distribute.MirroredStrategy):
    """Synchronous training on the devices of one machine.

    A `tf.distribute.MirroredStrategy` under which Keras 3 trains with the
    numbers of a single device: see `tfdist.sync.step`.

    Example:

    >>> import keras, numpy, tfdist
    >>> strategy = tfdist.MirroredStrategy(["CPU:0"])
    >>> with strategy.scope():
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("sgd", "mse")
    >>> history = model.fit(numpy.ones((8, 2)), numpy.ones((8, 1)), verbose=0)
    >>> sorted(history.history)
    ['loss']

    Args:
        devices: list of device strings, such as `["GPU:0", "GPU:1"]`. Defaults
            to all GPUs, or the CPU where there is none.
        cross_device_ops: a `tf.distribute.CrossDeviceOps`. Defaults to NCCL on
            GPUs and a ring on CPUs.
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        cross_device_ops: tf.distribute.CrossDeviceOps | None = None,
    ) -> None:
        engine.number_collectives_apart(self)
        super().__init__(devices=devices, cross_device_ops=cross_device_ops)
        self._adopt_engine()
