"""What a gradient-sync callback must compose with: models, data and arguments of `fit`.

Each feature returns a `Training`; seven steps an epoch, two epochs, so that neither
epoch ends at a synchronisation of the periods 3 and 4.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf
from keras import layers

EXAMPLES, BATCH, EPOCHS = 53, 8, 2
_rng = np.random.default_rng(0)
X = _rng.normal(size=(EXAMPLES, 6)).astype("float32")
# Skewed, so that the halves of a batch pull in different directions.
Y = (X[:, :1] * 2 + np.linspace(-1, 3, EXAMPLES)[:, None]).astype("float32")
TOKENS = _rng.integers(1, 6, size=(EXAMPLES, 7))
TOKENS[np.arange(7)[None, :] >= (1 + np.arange(EXAMPLES) % 7)[:, None]] = 0

FEATURES = {}


@dataclasses.dataclass
class Training:
    """How to train.

    Attributes:
        model: returns a model that is not compiled yet.
        optimizer: returns an optimizer.
        compile: dict for `compile`.
        of_replicas: dict for `compile` of the model under the strategy alone.
        arrays: tuple `(x, y)` or `(x, y, sample_weight)`.
        fit: a function of the arrays that returns arguments of `fit`.
        policy: the dtype policy.
        steps: batches an epoch.
        tolerance: relative, and absolute.
        layers_differ: whether layers act on a replica's part of a batch as a whole, so
            that the single process computes something else.
    """

    model: object
    optimizer: object = lambda: keras.optimizers.SGD(0.05, momentum=0.9)
    compile: dict = dataclasses.field(default_factory=dict)
    of_replicas: dict = dataclasses.field(default_factory=dict)
    arrays: tuple = (X, Y)
    fit: object = None
    policy: str = "float32"
    steps: int | None = None
    tolerance: float = 2e-5
    layers_differ: bool = False

    def make(self, strategy=None):
        """The compiled model, always with the same weights."""
        keras.config.set_dtype_policy(self.policy)
        keras.utils.set_random_seed(5)
        options = {"loss": "mse", **self.compile}
        if strategy is None:
            model = self.model()
            # Small as it is, that is quicker than tracing it.
            model.compile(self.optimizer(), **options, run_eagerly=True)
            return model
        with strategy.scope():
            model = self.model()
            model.compile(self.optimizer(), **options, **self.of_replicas)
        return model

    def batches(self):
        """The global batches of an epoch."""
        rows = [slice(begin, begin + BATCH) for begin in range(0, len(self.arrays[0]), BATCH)]
        return [[array[of] for array in self.arrays] for of in rows[: self.steps]]

    def arguments(self):
        """Arguments of `fit`, but for callbacks and epochs."""
        if self.fit is not None:
            return {"shuffle": False, **self.fit(*self.arrays)}
        names = ("x", "y", "sample_weight")
        return {**dict(zip(names, self.arrays)), "batch_size": BATCH, "shuffle": False}


def feature(function):
    FEATURES[function.__name__.replace("_", " ")] = function
    return function


def small_model():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="tanh"), layers.Dense(1)]
    )


def adam(rate=0.01, **options):
    return lambda: keras.optimizers.Adam(rate, **options)


def sgd(**options):
    return lambda: keras.optimizers.SGD(0.05, momentum=0.9, **options)


@feature
def momentum_and_a_short_last_batch():
    return Training(small_model)


@feature
def adam_optimizer():
    return Training(small_model, adam())


@feature
def four_steps_an_execution():
    return Training(small_model, of_replicas={"steps_per_execution": 4})


@feature
def clipnorm():
    return Training(small_model, sgd(clipnorm=0.3))


@feature
def global_clipnorm():
    return Training(small_model, sgd(global_clipnorm=0.3))


@feature
def clipvalue():
    return Training(small_model, sgd(clipvalue=0.1))


@feature
def ema():
    return Training(small_model, adam(use_ema=True, ema_momentum=0.8))


@feature
def ema_that_overwrites():
    return Training(small_model, sgd(use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=5))


@feature
def mixed_bfloat16():
    # Of three digits; and DiLoCo's momentum doubles a difference.
    return Training(small_model, policy="mixed_bfloat16", tolerance=8e-2)


def _overflowing(y):
    y = y.copy()
    y[2 * BATCH + 6] = 60_000.0  # in the second half of the third batch
    return y


@feature
def mixed_float16_where_one_replica_overflows():
    # Of the steps' loss that one is most: it is the weights that tell.
    return Training(
        small_model,
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.02), initial_scale=1024.0, dynamic_growth_steps=4
        ),
        arrays=(X, _overflowing(Y)),
        policy="mixed_float16",
        tolerance=2e-3,
    )


@feature
def gradient_accumulation():
    return Training(small_model, adam(gradient_accumulation_steps=2))


@feature
def jit_compile():
    return Training(small_model, of_replicas={"jit_compile": True})


@feature
def run_eagerly():
    return Training(small_model, of_replicas={"run_eagerly": True})


@feature
def learning_rate_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)
    return Training(small_model, lambda: keras.optimizers.SGD(schedule))


@keras.saving.register_keras_serializable(package="tests")
class OwnStep(keras.Model):
    """A train step as Keras' guide writes it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hidden, self.out = layers.Dense(5, activation="tanh"), layers.Dense(1)

    def call(self, x):
        return self.out(self.hidden(x))

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        self.metrics[0].update_state(loss, sample_weight=tf.shape(x)[0])
        return {metric.name: metric.result() for metric in self.metrics}


@feature
def a_train_step_of_its_own():
    def model():
        model = OwnStep()
        model(np.zeros((1, 6), "float32"))
        return model

    return Training(model, adam(global_clipnorm=0.5))


class TwoOptimizers(OwnStep):
    """One for each layer, of which `compile` knows only one."""

    def compile(self, optimizer, **options):
        super().compile(optimizer, **options)
        self.second = adam()()

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        parts = self.hidden.trainable_variables, self.out.trainable_variables
        gradients = tape.gradient(loss, parts)
        for optimizer, part, of_part in zip((self.optimizer, self.second), parts, gradients):
            optimizer.apply(of_part, part)
        self.metrics[0].update_state(loss, sample_weight=tf.shape(x)[0])
        return {"loss": self.metrics[0].result()}


@feature
def two_optimizers():
    def model():
        model = TwoOptimizers()
        model(np.zeros((1, 6), "float32"))
        return model

    return Training(model)


@feature
def embedding():
    def model():
        return keras.Sequential(
            [
                keras.Input((7,), dtype="int32"),
                layers.Embedding(6, 4),
                layers.Flatten(),
                layers.Dense(1),
            ]
        )

    return Training(model, adam(), arrays=(TOKENS, Y))


@feature
def masked_loss():
    def model():
        tokens = keras.Input((7,), dtype="int32")
        x = layers.Embedding(6, 4, mask_zero=True)(tokens)
        return keras.Model(tokens, layers.Dense(3)(x))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Training(model, sgd(), {"loss": loss}, arrays=(TOKENS, TOKENS % 3))


@feature
def batch_normalization():
    def model():
        return keras.Sequential(
            [
                keras.Input((6,)),
                layers.Dense(5),
                layers.BatchNormalization(momentum=0.8),
                layers.Dense(1),
            ]
        )

    return Training(model, layers_differ=True)


@feature
def sample_weight():
    return Training(small_model, arrays=(X, Y, np.linspace(0.1, 2, EXAMPLES).astype("float32")))


@feature
def a_replica_without_examples():
    # Without momentum: an optimizer with it goes on where it gets no gradient.
    examples = 6 * BATCH + 1
    return Training(
        small_model, lambda: keras.optimizers.SGD(0.05), arrays=(X[:examples], Y[:examples])
    )


def _pipeline(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)


@feature
def steps_per_epoch():
    return Training(
        small_model,
        fit=lambda *arrays: {"x": _pipeline(*arrays).take(5).repeat(), "steps_per_epoch": 5},
        steps=5,
    )


@feature
def unknown_length():
    return Training(
        small_model, fit=lambda *arrays: {"x": _pipeline(*arrays).filter(lambda *_: True)}
    )
