"""Trains the character language model under tfdist, on one of two hosts, until it is good enough.

Usage: keras_side.py SIDE with TF_CONFIG set, where SIDE is a JSON object (`slow_link.py`
makes it); each worker prints one JSON line.
"""

import json
import sys

import keras
import settings
from keras import layers

import tfdist


class Embed(layers.Layer):
    """Vectors of tokens plus those of places, with a dense gradient.

    That of `layers.Embedding` is sparse, and Keras' Adam squares each occurrence of a
    row by itself: another optimizer than PyTorch's, and slower here.
    """

    def __init__(self, vocabulary, width):
        super().__init__()
        self.vocabulary, self.width = vocabulary, width

    def build(self, shape):
        self.tokens = self.add_weight((self.vocabulary, self.width), name="tokens")
        self.places = self.add_weight((shape[1], self.width), name="places")

    def call(self, tokens):
        return keras.ops.one_hot(tokens, self.vocabulary) @ self.tokens + self.places


def build(vocabulary, seed=0):
    """The same model as `torch_side.GPT`."""
    tokens = keras.Input((settings.BLOCK,), dtype="int32")
    x = Embed(vocabulary, settings.WIDTH)(tokens)
    for _ in range(settings.LAYERS):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(settings.HEADS, settings.WIDTH // settings.HEADS)(
            y, y, use_causal_mask=True
        )
        x = x + y
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * settings.WIDTH, activation="gelu")(y)
        x = x + layers.Dense(settings.WIDTH)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    model = keras.Model(tokens, layers.Dense(vocabulary)(x))
    variables = [v for v in model.weights if v.name in ("tokens", "places", "kernel")]
    for variable, matrix in zip(variables, settings.matrices(vocabulary, seed), strict=True):
        variable.assign(matrix.reshape(variable.shape))
    return model


def optimizer():
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=settings.LEARNING_RATE,
        warmup_steps=settings.WARM_UP_STEPS,
        decay_steps=1,
        alpha=1.0,  # constant
    )
    return keras.optimizers.Adam(
        rate, beta_1=settings.BETA_1, beta_2=settings.BETA_2, epsilon=settings.EPSILON
    )


def agreement(side):
    """The list of callbacks that make workers agree as `side` says."""
    if side["callback"] is None:
        return []
    arguments = dict(side["arguments"])
    if "compressor" in arguments:
        name, *values = arguments["compressor"]
        arguments["compressor"] = getattr(tfdist.gradient_compression, name)(*values)
    if "outer_optimizer" in arguments:
        arguments["outer_optimizer"] = keras.optimizers.SGD(**arguments["outer_optimizer"])
    return [getattr(tfdist.callbacks, side["callback"])(**arguments)]


class Record(keras.callbacks.Callback):
    """Keeps time from the end of the first step, and stops at the target."""

    def __init__(self, target):
        super().__init__()
        self.target, self.recorder, self.step = target, settings.Recorder(), 0
        self.sync = {}

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0 and self.step > 0:
            self.recorder.begin()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step == 1:
            self.recorder.begin()
        elif batch == self.params["steps"] - 1:
            self.recorder.end(self.step)

    def on_epoch_end(self, epoch, logs=None):
        self.sync = {k: float(v) for k, v in logs.items() if k.startswith("sync_")}
        if "val_loss" in logs:
            self.recorder.evaluated(logs["val_loss"])
            # Alike on all workers: the loss is that of the whole set.
            self.model.stop_training = logs["val_loss"] <= self.target


def train(side):
    strategy = tfdist.auto_strategy()
    keras.utils.set_random_seed(0)
    (x, y), validation, vocabulary = settings.data(side["steps"], tfdist.world_size())
    with strategy.scope():
        model = build(vocabulary)
        model.compile(
            optimizer(),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=side.get("jit_compile", "auto"),
        )
    callbacks, record = agreement(side), Record(side["target"])
    model.fit(
        x,
        y,
        batch_size=settings.BATCH * tfdist.world_size(),
        steps_per_epoch=side["evaluate_every"],
        epochs=side["steps"] // side["evaluate_every"],
        shuffle=False,
        validation_data=validation if side["target"] is not None else None,
        validation_batch_size=settings.VALIDATION,
        callbacks=[*callbacks, record],
        verbose=0,
    )
    found = {"points": record.recorder.points, "parameters": model.count_params(), **record.sync}
    for callback in callbacks:
        shapes = [variable.shape for variable in model.trainable_variables]
        sent = callback.algorithm.bytes_per_step(shapes, tfdist.world_size())
        found["bytes_per_step"] = float(sent)
    return found


if __name__ == "__main__":
    print("RESULT " + json.dumps(train(json.loads(sys.argv[1]))), flush=True)
    tfdist.barrier("done")
