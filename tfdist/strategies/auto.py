"""The strategy that fits where the program runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import tensorflow as tf

from tfdist import tf_config
from tfdist.strategies.mirrored import MirroredStrategy
from tfdist.strategies.multi_worker import MultiWorkerMirroredStrategy
from tfdist.strategies.parameter_server import ParameterServerStrategy

if TYPE_CHECKING:
    from tfdist.strategies.tpu import TPUStrategy


def auto_strategy() -> (
    MirroredStrategy | MultiWorkerMirroredStrategy | ParameterServerStrategy | TPUStrategy
):
    """Returns the strategy for this environment, so that one script runs everywhere.

    - `TF_CONFIG` with a cluster (set by `tfdist run`): `MultiWorkerMirroredStrategy`, or
      with parameter servers (`tfdist run --ps`) `ParameterServerStrategy`;
    - a TPU (`TPU_NAME` is set): `TPUStrategy`;
    - otherwise `MirroredStrategy`, on all GPUs, or on the CPU.

    Example:

    >>> import tfdist
    >>> tfdist.auto_strategy().num_replicas_in_sync >= 1
    True

    Raises:
        ValueError: a malformed `TF_CONFIG`.
    """
    cluster = tf_config.from_environment()
    if cluster.parameter_servers:
        return ParameterServerStrategy()
    if cluster.addresses:
        return MultiWorkerMirroredStrategy()
    if os.environ.get("TPU_NAME"):
        from tfdist.strategies.tpu import TPUStrategy

        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return TPUStrategy(resolver)
    return MirroredStrategy()
