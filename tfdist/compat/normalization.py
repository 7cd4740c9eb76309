"""Moments over the global batch, in one message.

Needs: `_compute_moments_sync` of Keras' TensorFlow backend, and
`BatchNormalization._moments`.
Why: `BatchNormalization(synchronized=True)` sends its sum, its sum of squares
and its count one after the other, and counts the stand-in of a replica that has
no examples. Inside a step of `fit` they go together, and a stand-in adds
nothing. The formula is Keras', E(x^2) - E(x)^2. With a mask Keras does not
synchronize at all.
"""

import keras
import tensorflow as tf
from keras.layers import BatchNormalization
from keras.src.backend.tensorflow import nn

from tfdist.compat import active_step
from tfdist.compat.replacing import replace


def install():
    when = "in a step of `fit` or `evaluate` on several replicas"
    replace(
        nn,
        "_compute_moments_sync",
        _in_one_message,
        when,
        "sums the three sums of synchronized BatchNormalization in one message",
    )
    replace(
        BatchNormalization,
        "_moments",
        _masked_moments,
        f"{when}, with `synchronized=True` and a mask",
        "computes the moments of the global batch",
    )


def _synchronizing_step():
    step = active_step.current()
    return step if step is not None and step.weighs_examples and step.num_replicas > 1 else None


def _masked_moments(original):
    def _moments(self, inputs, mask):
        step = _synchronizing_step()
        if step is None or mask is None or not self.synchronized:
            return original(self, inputs, mask)
        mask = tf.broadcast_to(tf.cast(mask[..., None], inputs.dtype), tf.shape(inputs))

        def total(values):
            values = tf.reduce_sum(values, self._reduction_axes, keepdims=True)
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, step.zero_if_empty(values))

        # In two passes, and with Keras' epsilon, as in one process.
        weight = total(mask) + keras.config.epsilon()
        mean = total(mask * inputs) / weight
        variance = total(mask * tf.square(inputs - mean)) / weight
        return tf.squeeze(mean, self._reduction_axes), tf.squeeze(variance, self._reduction_axes)

    return _moments


def _in_one_message(original):
    def _compute_moments_sync(x, axes, keepdims):
        step = _synchronizing_step()
        if step is None:
            return original(x, axes, keepdims)
        sums = [
            tf.reduce_sum(x, axis=axes, keepdims=True),
            tf.reduce_sum(tf.square(x), axis=axes, keepdims=True),
            tf.reduce_sum(tf.ones_like(x), axis=axes, keepdims=True),
        ]
        sums = step.zero_if_empty(tf.stack(sums))
        context = tf.distribute.get_replica_context()
        total, total_of_squares, count = tf.unstack(
            context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        )
        mean = tf.math.divide_no_nan(total, count)
        mean_of_squares = tf.math.divide_no_nan(total_of_squares, count)
        variance = tf.maximum(mean_of_squares - tf.square(mean), 0.0)
        if not keepdims:
            mean, variance = tf.squeeze(mean, axes), tf.squeeze(variance, axes)
        return mean, variance

    return _compute_moments_sync
