"""Models whose step is not a stack of `Dense` layers, or not Keras' own."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from feature_cases.common import EACH_KIND, EXAMPLES, SLOW, X, feature, fit


@feature(quick=EACH_KIND)
def own_train_step():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)
            self.tracker = keras.metrics.Mean(name="tracked")

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.ops.square(self(x, training=True) - y))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            self.tracker.update_state(loss)
            return {"tracked": self.tracker.result(), "raw": loss}

    model = Model()
    model.compile(keras.optimizers.SGD(0.05))
    found = fit(model)  # the tracker counts each batch once, the short last one, too
    return {**found, "weight": model.get_weights()[0]}


@feature
def compute_loss_in_own_train_step():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                predictions = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=predictions)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return self.compute_metrics(x, y, predictions)

    model = Model()
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    found = fit(model)
    return {"mae": found["mae"], "weight": model.get_weights()[0]}


@feature(quick=EACH_KIND)
def two_optimizers_built_in_the_first_step():
    class GAN(keras.Model):
        def __init__(self):
            super().__init__()
            self.generator = keras.Sequential([keras.Input((1,)), layers.Dense(6)])
            self.critic = keras.Sequential([keras.Input((6,)), layers.Dense(1)])

        def compile(self):
            super().compile()
            self.generator_optimizer = keras.optimizers.Adam(0.01)
            self.critic_optimizer = keras.optimizers.SGD(0.01, global_clipnorm=0.1)

        def train_step(self, data):
            real, noise = data
            loss_of = keras.losses.BinaryCrossentropy(from_logits=True)
            with tf.GradientTape(persistent=True) as tape:
                scores = self.critic(real), self.critic(self.generator(noise))
                ones, zeros = keras.ops.ones_like(scores[0]), keras.ops.zeros_like(scores[0])
                critic_loss = loss_of(ones, scores[0]) + loss_of(zeros, scores[1])
                generator_loss = loss_of(ones, scores[1])
            for part, loss, optimizer in (
                (self.critic, critic_loss, self.critic_optimizer),
                (self.generator, generator_loss, self.generator_optimizer),
            ):
                variables = part.trainable_variables
                optimizer.apply(tape.gradient(loss, variables), variables)
            return {"critic": critic_loss, "generator": generator_loss}

    model = GAN()
    model.compile()
    found = fit(model)
    return {**found, "weights": np.concatenate([w.numpy().ravel() for w in model.weights])}


@feature
def LSTM():
    model = keras.Sequential([keras.Input((3, 2)), layers.LSTM(4), layers.Dense(1)])
    model.compile("adam", "mse")
    return fit(model, X.reshape(EXAMPLES, 3, 2))


@feature(quick=SLOW)
def attention_with_mask():
    tokens = np.arange(EXAMPLES * 5).reshape(EXAMPLES, 5) % 9
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.MultiHeadAttention(2, 2)(x, x)
    x = layers.LayerNormalization()(x)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))
    model.compile("adam", "mse")
    return fit(model, tokens)


@feature(quick=SLOW)
def synchronized_batch_normalization():
    model = keras.Sequential(
        [keras.Input((6,)), layers.BatchNormalization(synchronized=True), layers.Dense(1)]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = fit(model)
    return {**found, "moving mean": model.layers[0].moving_mean.numpy()}


@feature(quick=EACH_KIND)
def masked_synchronized_batch_normalization():
    tokens = np.arange(EXAMPLES * 5).reshape(EXAMPLES, 5) % 9
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.BatchNormalization(synchronized=True)(x)
    model = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = fit(model, tokens)
    return {**found, "variance": model.layers[2].moving_variance.numpy()}


@feature(quick=SLOW)
def keras_applications():
    # In float64: on so few pixels the variances of BatchNormalization, as Keras
    # computes them over replicas or one, E(x^2) - E(x)^2, lose all digits in float32.
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = keras.applications.MobileNetV2((32, 32, 3), 0.35, weights=None, classes=3)
        for layer in model.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.synchronized = True
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        images = np.random.default_rng(1).normal(size=(8, 32, 32, 3))
        return fit(model, images, np.arange(8) % 3, batch_size=4, epochs=1)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@feature
def KerasHub_backbone():
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=11,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        dropout=0.0,  # differs between replicas
        max_sequence_length=5,
        num_segments=1,
    )
    outputs = layers.Dense(1)(backbone.output["pooled_output"])
    model = keras.Model(backbone.input, outputs)
    model.compile("adam", "mse")
    tokens = np.arange(EXAMPLES * 5).reshape(EXAMPLES, 5) % 11
    inputs = {
        "token_ids": tokens,
        "segment_ids": np.zeros_like(tokens),
        "padding_mask": (tokens > 0).astype("int32"),
    }
    return fit(model, inputs)
