"""Replicas on TPU cores."""

import tensorflow as tf


class TPUStrategy(tf.distribute.TPUStrategy):
    """`tf.distribute.TPUStrategy`, unchanged.

    Under it Keras 3 trains by its own step functions, with their limits: a mean
    of the replicas' mean losses, clipping before the reduction. What
    `tfdist.sync.step` adds needs collectives that could not be tried on a TPU.

    Args:
        tpu_cluster_resolver: a `tf.distribute.cluster_resolver.TPUClusterResolver`.
        experimental_device_assignment: see TensorFlow.
        experimental_spmd_xla_partitioning: see TensorFlow.
    """
