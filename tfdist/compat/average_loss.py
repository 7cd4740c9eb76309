"""`tf.nn.compute_average_loss` and `scale_regularization_loss` in a step of `fit`.

Needs: both (public, replaced in `tf.nn`).
Why: they say that the division by the global batch has been done, as TensorFlow's guide
teaches it for custom loops, and many write so in a `train_step`. In a step of `fit` and
`evaluate`, whose loss counts as the mean over this replica's examples, they return what is
right as such: the sum over this replica's examples / global_batch_size times B / b_r, and
all of a regularization loss. In a custom training loop they are TensorFlow's.

Limit: a name that was bound before the first strategy was made
(`from tensorflow.nn import compute_average_loss`) is the original.
"""

import tensorflow as tf

from tfdist.compat import active_step
from tfdist.compat.replacing import replace


def install():
    when = "in a step of `fit` or `evaluate` on several replicas"
    replace(
        tf.nn,
        "compute_average_loss",
        _of_this_replica,
        when,
        "multiplies by B / b_r, and takes the true B where `global_batch_size` is not given",
    )
    replace(tf.nn, "scale_regularization_loss", _whole, when, "returns the sum, not divided")


def _step_of_several_replicas():
    step = active_step.current()
    return step if step is not None and step.weighs_examples and step.num_replicas > 1 else None


def _of_this_replica(original):
    def compute_average_loss(per_example_loss, sample_weight=None, global_batch_size=None):
        step = _step_of_several_replicas()
        if step is None:
            return original(per_example_loss, sample_weight, global_batch_size)
        if global_batch_size is None:
            global_batch_size = tf.cast(step.global_examples(), tf.int64)
        mean = original(per_example_loss, sample_weight, global_batch_size)
        mean *= tf.cast(step.examples_ratio(), mean.dtype)
        step.note_right_loss(mean)
        return mean

    return compute_average_loss


def _whole(original):
    def scale_regularization_loss(regularization_loss):
        step = _step_of_several_replicas()
        if step is None:
            return original(regularization_loss)
        total = tf.reduce_sum(regularization_loss)
        step.note_right_loss(total)
        return total

    return scale_regularization_loss
