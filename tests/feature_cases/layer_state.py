"""State that layers keep from step to step: counters, averages, caches, states of RNNs."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from feature_cases.common import BATCH, EACH_KIND, EXAMPLES, SLOW, X, Y, feature, fit

_SEQUENCES = np.random.default_rng(4).normal(size=(48, 5, 3)).astype("float32")


def _of_replica():
    """How many examples of a batch a replica gets, where they are equally many."""
    return BATCH // tf.distribute.get_strategy().num_replicas_in_sync


class Counts(layers.Layer):
    def build(self, shape):
        def state(name, **options):
            options = {"shape": (), "initializer": "zeros", "trainable": False, **options}
            return self.add_weight(name=name, **options)

        self.examples = state("examples", aggregation="sum")
        self.whole_examples = state("whole_examples", dtype="int32")
        self.wide_examples = state("wide_examples", dtype="int64")
        self.by_assign = state("by_assign", dtype="int32")
        self.steps = state("steps", dtype="int32")
        self.float_steps = state("float_steps")
        self.mean = state("mean", aggregation="mean", shape=shape[-1:])
        self.undeclared_mean = state("undeclared_mean", shape=shape[-1:])

    def call(self, x, training=False):
        if training:
            examples = tf.shape(x)[0]
            self.examples.assign_add(tf.cast(examples, "float32"))
            self.whole_examples.assign_add(examples)
            self.wide_examples.assign_sub(-tf.cast(examples, "int64"))
            self.by_assign.assign(self.by_assign + examples)
            self.steps.assign_add(1)
            self.float_steps.assign_add(1.0)
            mean = tf.reduce_mean(x, axis=0)
            self.mean.assign_add(0.1 * (mean - self.mean))
            self.undeclared_mean.assign(0.9 * self.undeclared_mean + 0.1 * mean)
        return x


@feature(quick=EACH_KIND)
def layers_that_count_and_average():
    model = keras.Sequential([keras.Input((6,)), Counts(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    fit(model)
    found = {v.name: v.numpy() for v in model.layers[0].weights}
    assert found["examples"] == 2 * EXAMPLES and found["steps"] == 14
    return found


@feature
def layers_that_count_examples_of_static_batches():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(BATCH, drop_remainder=True)
    model = keras.Sequential([keras.Input((6,)), Counts(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(data, verbose=0)
    return {v.name: v.numpy() for v in model.layers[0].weights}


@feature
def layers_that_count_with_XLA():
    model = keras.Sequential([keras.Input((6,)), Counts(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=True, steps_per_execution=2)
    fit(model)
    return {v.name: v.numpy() for v in model.layers[0].weights}


def _trained_on_sequences(*between):
    model = keras.Sequential(
        [keras.Input(batch_shape=(_of_replica(), 5, 3)), *between, layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    first = fit(model, _SEQUENCES, Y[:48])
    between[0].reset_state() if hasattr(between[0], "reset_state") else None
    second = fit(model, _SEQUENCES, Y[:48], validation_data=(_SEQUENCES, Y[:48]))
    return {"first": first["loss"], "second": second["loss"], "val_loss": second["val_loss"]}


@feature
def stateful_LSTM():
    return _trained_on_sequences(layers.LSTM(4, stateful=True))


@feature(quick=SLOW)
def stateful_bidirectional_GRU():
    return _trained_on_sequences(layers.Bidirectional(layers.GRU(2, stateful=True)))


@feature
def cache_with_a_row_for_each_example():
    class Cache(layers.Layer):
        """Adds what an example's row of the last batch was."""

        def build(self, shape):
            self.last = self.add_weight(
                shape=shape, initializer="zeros", trainable=False, aggregation="none"
            )

        def call(self, x):
            mixed = x + 0.5 * self.last
            self.last.assign(x)
            return mixed

    return _trained_on_sequences(Cache(), layers.Flatten())
