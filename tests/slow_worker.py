"""What makes one worker of several slow, without taking a core from the others."""

import tensorflow as tf


def sleeping(dataset, microseconds):
    """`dataset`, whose every element takes so much longer; `microseconds` may be a tensor."""
    slow = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        sleep_microseconds=tf.cast(microseconds, tf.int64),
        output_types=[spec.dtype for spec in tf.nest.flatten(dataset.element_spec)],
        output_shapes=[spec.shape for spec in tf.nest.flatten(dataset.element_spec)],
    )
    return tf.data.experimental.from_variant(slow, dataset.element_spec)


def sleep(microseconds):
    """A scalar float32 zero that takes `microseconds`, in a graph."""
    zero = tf.data.Dataset.from_tensors(tf.constant(0.0))
    return tf.data.experimental.get_single_element(sleeping(zero, microseconds))


def sleep_on(worker, microseconds):
    """A zero that takes `microseconds` on one worker of a ParameterServerStrategy."""
    this = tf.distribute.coordinator.experimental_get_current_worker_index()
    return sleep(tf.where(tf.equal(this, worker), microseconds, 0))
