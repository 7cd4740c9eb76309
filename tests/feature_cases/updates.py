"""What changes weights besides the gradient, and optimizers that do more than subtract it."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import tfdist
from feature_cases.common import SERVERS, SLOW, WORKERS, X, Y, feature, fit, small_model

SMALL_STEPS = 1e-4  # of optimizers that divide by small numbers


def _trained(model, x=X, y=Y):
    found = fit(model, x, y)
    weights = {f"weight {i}": w for i, w in enumerate(model.get_weights())}
    return {"loss": found["loss"], **weights}


@feature(quick=SERVERS)
def constraints():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, kernel_constraint=keras.constraints.MaxNorm(0.5)),
            layers.Dense(1, kernel_constraint="non_neg", bias_constraint="non_neg"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse")
    found = _trained(model, y=-Y)
    assert (model.layers[1].kernel.numpy() >= 0).all()
    return found


class VAE(keras.Model):
    """The divergence is a loss of a layer's, and a metric's value is the model's own."""

    class Sampling(layers.Layer):
        def call(self, inputs):
            mean, spread = inputs
            kl = keras.ops.square(mean) + keras.ops.exp(spread) - spread - 1.0
            self.add_loss(0.1 * keras.ops.mean(kl))
            return mean

    def __init__(self):
        super().__init__()
        self.mean, self.spread = layers.Dense(2, activity_regularizer="l2"), layers.Dense(2)
        self.sampling, self.decoder = self.Sampling(), layers.Dense(6)

    def call(self, x):
        return self.decoder(self.sampling((self.mean(x), self.spread(x))))


@feature(quick=SERVERS)
def add_loss_of_a_layer():
    model = VAE()
    model.build((None, 6))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    return _trained(model, X[:48], X[:48])


@feature(quick=(*WORKERS, *SERVERS))
def target_network():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.online = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
            self.target = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
            self.count = self.add_weight(shape=(), dtype="int32", initializer="zeros")

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((0.5 * (y + self.target(x)) - self.online(x)) ** 2)
            variables = self.online.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            self.count.assign_add(1)
            for old, new in zip(self.target.weights, self.online.weights):
                old.assign(0.5 * old + 0.5 * new)
            return {"loss": loss}

    model = Model()
    model.count.trainable = False
    model.compile(keras.optimizers.SGD(0.05))
    model.optimizer.build(model.online.trainable_variables)
    found = fit(model, X[:48], Y[:48])
    networks = {"online": model.online, "target": model.target}
    weights = {f"{n} {i}": w for n, m in networks.items() for i, w in enumerate(m.get_weights())}
    return {**found, **weights, "count": int(model.count)}


@feature(quick=SERVERS)
def own_optimizers_beside_an_unused_one():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
            self.second = keras.Sequential([keras.Input((6,)), layers.Dense(1)])

        def compile(self):
            super().compile()
            self.optimizers = [keras.optimizers.SGD(0.05), keras.optimizers.Adam(0.05)]
            for optimizer, part in zip(self.optimizers, (self.first, self.second)):
                optimizer.build(part.trainable_variables)
            self.tracker = keras.metrics.Mean(name="tracked")

        @property
        def metrics(self):
            return [self.tracker]

        def train_step(self, data):
            x, y = data
            for _ in range(2):
                for optimizer, part in zip(self.optimizers, (self.first, self.second)):
                    with tf.GradientTape() as tape:
                        loss = tf.reduce_mean((y - part(x)) ** 2)
                    variables = part.trainable_variables
                    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            self.tracker.update_state(loss)
            return {"tracked": self.tracker.result()}

    model = Model()
    model.compile()
    found = fit(model, X[:48], Y[:48])
    weights = [*model.first.get_weights(), *model.second.get_weights()]
    found |= {f"weight {i}": w for i, w in enumerate(weights)}
    return {**found, "steps": [int(one.iterations) for one in model.optimizers]}


@feature(quick=SERVERS)
def spectral_normalization():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.SpectralNormalization(layers.Dense(4, activation="relu")),
            layers.Dense(1, kernel_regularizer="l2"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    return _trained(model)


@feature(tolerance=SMALL_STEPS, quick=SERVERS)
def Muon():
    optimizer = keras.optimizers.Muon(0.01, adam_weight_decay=0.1)
    return _trained(small_model(optimizer=optimizer))


@feature(tolerance=SMALL_STEPS, quick=SLOW)
def Nadam():
    return _trained(small_model(optimizer=keras.optimizers.Nadam(0.01)))


@feature(quick=SLOW)
def weights_overwritten_by_their_average():
    optimizer = keras.optimizers.SGD(
        0.05, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3
    )
    return _trained(small_model(optimizer=optimizer))


@feature(quick=(*WORKERS, *SERVERS))
def weights_updated_in_a_condition():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.late = layers.Dense(1), layers.Dense(1, trainable=False)
            self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def build(self, shape):
            self.dense.build(shape)
            self.late.build(shape)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            variables = self.dense.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)

            def keep():
                self.late.kernel.assign(self.dense.kernel)
                self.count.assign(self.count + 2.0)
                return True

            tf.cond(tf.equal(self.optimizer.iterations.value % 3, 0), keep, lambda: False)
            return {"loss": loss}

    model = Model()
    model.build((None, 6))
    model.compile(keras.optimizers.SGD(0.05))
    found = fit(model, X[:48], Y[:48])
    weights = {name: getattr(model, name).kernel.numpy() for name in ("dense", "late")}
    return {**found, **weights, "count": model.count.numpy()}


@feature(quick=SLOW)
def float_state_in_bfloat16():
    class Average(layers.Layer):
        def build(self, shape):
            self.largest = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.largest.assign(0.9 * self.largest + 0.1 * keras.ops.mean(keras.ops.abs(x)))
            return x

    model = keras.Sequential([keras.Input((6,)), Average(dtype="mixed_bfloat16"), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    fit(model, np.ones((48, 6), "float32"), Y[:48])
    return {"average": model.layers[0].largest.numpy()}


@feature(quick=WORKERS)
def pruning():
    """Neurons while it trains, then without them, and then weights of what is left."""
    compression = tfdist.model_compression
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(6, "tanh"), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.005, momentum=0.9), "mse")
    half = compression.Constant(final=0.5, begin=1)
    neurons = compression.prune(model, "l2", "filter", half)
    found = {"loss": fit(model, callbacks=[neurons])["loss"]}
    small = compression.shrink(model)
    assert small.layers[0].units == 4
    weights = compression.prune(small, schedule=compression.Cubic(final=0.5, begin=1, end=3))
    found["loss without them"] = fit(small, callbacks=[weights])["loss"]
    return found | {f"weight {i}": w for i, w in enumerate(small.get_weights())}
