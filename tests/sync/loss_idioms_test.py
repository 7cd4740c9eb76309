"""Which losses of train steps are warned of: those of the table in `sync/loss_idioms.py`."""

import warnings

import keras
import pytest
import tensorflow as tf

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.loss_idioms import LossIdioms
from tfdist.sync.step import KerasStep

BATCH, REPLICAS = 16, 2


class Communicator:
    num_replicas = REPLICAS

    def all_reduce(self, values):
        return [2 * value for value in values]


def per_example(x):
    return tf.reduce_mean(x**2, axis=-1)


def unreduced(x):
    return keras.losses.MeanSquaredError(reduction="none")(x, tf.zeros_like(x))


def summed(x):
    return keras.losses.MeanSquaredError(reduction="sum")(x, tf.zeros_like(x))


# name -> (loss of a step, what the warning says; None for no warning)
LOSSES = {
    "a mean": (lambda x: tf.reduce_mean(x**2), None),
    "a mean by hand": (lambda x: tf.reduce_sum(x) / tf.cast(tf.shape(x)[0], "float32"), None),
    "a loss object": (lambda x: keras.losses.MeanSquaredError()(x, tf.zeros_like(x)), None),
    "a factor": (lambda x: 0.1 * tf.reduce_mean(x**2) / 3.0, None),
    "half a vector": (lambda x: tf.reduce_mean(0.5 * x**2), None),
    "a mean of the unreduced": (lambda x: tf.reduce_mean(unreduced(x) * x[:, 0]), None),
    "average loss": (
        lambda x: tf.nn.compute_average_loss(per_example(x), global_batch_size=BATCH),
        None,
    ),
    "average loss and regularization": (
        lambda x: (
            tf.nn.compute_average_loss(per_example(x))
            + tf.nn.scale_regularization_loss(tf.constant([1.0]))
        ),
        None,
    ),
    "a sum over B": (lambda x: tf.reduce_sum(per_example(x)) / BATCH, "divided by 16, the size"),
    "a sum times 1 / B": (
        lambda x: tf.reduce_sum(per_example(x)) * (1.0 / BATCH),
        "multiplied by one over 16, the size",
    ),
    "a sum of parts": (lambda x: tf.reduce_sum(per_example(x) / BATCH), "the size of the global"),
    "a part of it": (
        lambda x: tf.reduce_mean(x) + tf.reduce_sum(per_example(x)) / tf.cast(BATCH, "float32"),
        "the size of the global",
    ),
    "a mean over N": (lambda x: tf.reduce_mean(x**2) / REPLICAS, "2, the number of replicas"),
    "a mean times 1 / N": (
        lambda x: (1.0 / REPLICAS) * tf.reduce_mean(x**2),
        "one over 2, the number of replicas",
    ),
    "the unreduced": (unreduced, 'reduction="sum" or "none"'),
    "a sum": (lambda x: 3.0 * summed(x), 'reduction="sum" or "none"'),
    "a sum of the unreduced": (lambda x: tf.reduce_sum(unreduced(x)), 'reduction="sum"'),
}


def differentiate(loss, own_step=True, batch_size=BATCH):
    compat.install()
    told = []

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 3])])
    def function(x):
        idioms = LossIdioms(REPLICAS, batch_size, own_step)
        step = KerasStep(
            Communicator(), tf.constant(0), tf.shape(x)[0], tf.constant(BATCH), idioms=idioms
        )
        with warnings.catch_warnings(record=True) as caught, active_step.activate(step):
            warnings.simplefilter("always")
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x)
            gradient = tape.gradient(value, x)
        told.extend(str(warning.message) for warning in caught)
        return gradient

    function.get_concrete_function()
    return told


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_warned_of(name):
    loss, expected = LOSSES[name]
    told = differentiate(loss)
    assert len(told) == (0 if expected is None else 1)
    assert all(expected in text and "compute_average_loss" in text for text in told)


def test_keras_own_step_may_divide_as_it_likes():
    assert differentiate(LOSSES["a sum over B"][0], own_step=False) == []


def test_without_a_known_batch_only_replicas_are_looked_for():
    assert differentiate(LOSSES["a sum over B"][0], batch_size=None) == []
    assert len(differentiate(LOSSES["a mean over N"][0], batch_size=None)) == 1
