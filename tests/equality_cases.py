"""Small trainings whose numbers must not depend on where the replicas live.

Each case builds a model, its data and its optimizer from fixed seeds; `train`
runs one under a strategy, or none, and returns every number that came out. The
tests run all of them in one process and in workers and compare; the benchmark
prints the differences beside those of stock `tf.distribute`.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
import tiers
from keras import layers

STEPS = 30
BATCH = 16


def _regression(examples, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 8))
    # Skewed: examples at the end are much larger, so that a mean of means shows.
    scale = np.linspace(0.2, 3.0, examples)[:, None]
    y = scale * np.stack([x @ rng.normal(size=8), np.sin(x[:, 0]), x[:, 1] * x[:, 2]], axis=1)
    return x, y


def _tokens(examples, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 20, size=(examples, 7))
    lengths = 1 + np.arange(examples) % 7  # the mask differs from example to example
    tokens[np.arange(7)[None, :] >= lengths[:, None]] = 0
    return tokens, lengths


def _dense(regularizer=None, synchronized=None, activity=None):
    inputs = keras.Input((8,))
    x = layers.Dense(
        16, activation="tanh", kernel_regularizer=regularizer, activity_regularizer=activity
    )(inputs)
    if synchronized is not None:
        x = layers.BatchNormalization(synchronized=synchronized, momentum=0.9)(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def _case(optimizer, examples=81, model=_dense, loss="mse", compile=None, **fit):
    # 81 examples in batches of 16: six steps an epoch, the last with one example.
    def make():
        x, y = _regression(examples)
        return (
            model(),
            {"loss": loss, "metrics": ["mae"], **(compile or {})},
            optimizer(),
            x,
            y,
            fit,
        )

    return make


def _sgd(**kwargs):
    return lambda: keras.optimizers.SGD(0.02, momentum=0.9, **kwargs)


def _adam(**kwargs):
    return lambda: keras.optimizers.Adam(0.01, **kwargs)


def _class_weight():
    x, y = _regression(81)
    labels = np.argmax(y, axis=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights = {0: 0.5, 1: 2.0, 2: 1.5}
    return (
        _dense(),
        {"loss": loss, "metrics": ["accuracy"]},
        _sgd()(),
        x,
        labels,
        {"class_weight": weights},
    )


def _sequence_model(mask_zero=True):
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6, mask_zero=mask_zero)(inputs)
    x = layers.SimpleRNN(8, return_sequences=True)(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def _mask():
    tokens, _ = _tokens(81)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return _sequence_model(), {"loss": loss}, _adam()(), tokens, tokens % 4, {}


def _mask_mean_with_sample_weight():
    tokens, lengths = _tokens(81)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    fit = {"sample_weight": np.tile(lengths[:, None] / 3.0, (1, 7))}
    return _sequence_model(), {"loss": loss}, _adam()(), tokens, tokens % 4, fit


def _two_heads():
    tokens, lengths = _tokens(81)
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6, mask_zero=True)(inputs)
    sequence = layers.SimpleRNN(8, return_sequences=True)(x)
    tags = layers.Dense(4, name="tags")(sequence)
    length = layers.Dense(1, name="length")(layers.GlobalAveragePooling1D()(sequence))
    model = keras.Model(inputs, {"tags": tags, "length": length})
    compile = {
        "loss": {
            "tags": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "length": "mse",
        },
        "loss_weights": {"tags": 1.0, "length": 0.3},
        "metrics": {"length": ["mae"]},
    }
    y = {"tags": tokens % 4, "length": lengths[:, None].astype("float64")}
    return model, compile, _adam()(), tokens, y, {}


def _embedding():
    tokens, lengths = _tokens(81)
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(20, 6),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    return model, {"loss": "mse"}, _adam(global_clipnorm=1.0)(), tokens, lengths[:, None] * 1.0, {}


def _images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(81, 6, 6, 2))
    y = rng.integers(0, 3, size=81)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(synchronized=True),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return model, {"loss": loss, "metrics": ["accuracy"]}, _sgd()(), x, y, {}


def _loss_scaling():
    return keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01, clipnorm=0.5), initial_scale=1024.0, dynamic_growth_steps=4
    )


class _SummedSquares(keras.losses.MeanSquaredError):
    def __init__(self):
        super().__init__(reduction="sum")


class _UnreducedSquares(keras.losses.MeanSquaredError):
    def __init__(self):
        super().__init__(reduction="none")


def _averaged_by_hand(y_true, y_pred):
    """A loss object's results, weighed and averaged by the user's own function."""
    per_example = keras.losses.MeanAbsoluteError(reduction="none")(y_true, y_pred)
    return tf.reduce_mean(per_example * (1.0 + y_true[:, 0] ** 2))


class AverageLoss(keras.Model):
    """A train step as TensorFlow's guide to custom loops computes its loss."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            per_example = tf.reduce_mean((self(x, training=True) - y) ** 2, axis=-1)
            loss = tf.nn.compute_average_loss(per_example, global_batch_size=BATCH)
            loss += tf.nn.scale_regularization_loss(tf.add_n(self.losses))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def _average_loss():
    model = _dense("l2")
    return AverageLoss(model.inputs, model.outputs)


def _with_weights():
    return np.linspace(0.1, 2.0, 81)


CASES = {
    "SGD with momentum, last batch of one": _case(_sgd()),
    "Adam, last batch of one": _case(_adam()),
    "equal batches": _case(_sgd(), examples=80),
    "shuffled arrays": _case(_sgd(), shuffle=True),
    "sample_weight": _case(_sgd(), sample_weight=_with_weights()),
    "class_weight": _class_weight,
    "mask": _mask,
    "mask and mean_with_sample_weight": _mask_mean_with_sample_weight,
    "reduction sum": _case(lambda: keras.optimizers.SGD(0.002), loss=_SummedSquares),
    "reduction none": _case(lambda: keras.optimizers.SGD(0.002), loss=_UnreducedSquares),
    "loss object averaged by hand": _case(_sgd(), loss=_averaged_by_hand),
    "tf.nn.compute_average_loss": _case(_sgd(), model=_average_loss, compile={"metrics": None}),
    "two heads, one masked": _two_heads,
    "scalar custom loss": _case(_sgd(), loss=lambda y, p: keras.ops.mean(keras.ops.square(y - p))),
    "regularization losses": _case(_sgd(), model=lambda: _dense("l2", activity="l1")),
    "Embedding, sparse gradients": _embedding,
    "gradient_accumulation_steps=2": _case(_adam(gradient_accumulation_steps=2)),
    "clipvalue": _case(_sgd(clipvalue=0.05)),
    "clipnorm": _case(_sgd(clipnorm=0.1)),
    "global_clipnorm": _case(_sgd(global_clipnorm=0.1)),
    "loss scaling": _case(_loss_scaling),
    "weight decay": _case(lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1)),
    "EMA": _case(_adam(use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7)),
    "BatchNormalization(synchronized=True)": _case(_sgd(), model=lambda: _dense(synchronized=True)),
    "convolution, synchronized BN": _images,
    "steps_per_execution=4": _case(_sgd(), compile={"steps_per_execution": 4}),
}

# In the quick tier only these are evaluated, too: they differ in what `evaluate` and `predict`
# sum, and with it in their last batch. To trace both takes as long as to train.
EVALUATED = {
    "SGD with momentum, last batch of one",
    "mask",
    "mask and mean_with_sample_weight",
    "reduction sum",
    "reduction none",
    "two heads, one masked",
    "regularization losses",
    "steps_per_execution=4",
}


def train(name, strategy=None, floatx="float64"):
    """Trains a case for 30 steps.

    Returns:
        Dict of arrays: each weight, the History, `evaluate` and `predict`.
    """
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(floatx)
    keras.utils.set_random_seed(7)
    with strategy.scope() if strategy else contextlib.nullcontext():
        model, compile, optimizer, x, y, fit = CASES[name]()
        model.compile(optimizer=optimizer, **compile)
    if x.dtype.kind == "f":
        x = x.astype(floatx)
    steps = -(-len(x) // BATCH)
    options = {"shuffle": False, **fit}
    history = model.fit(x, y, batch_size=BATCH, epochs=STEPS // steps, verbose=0, **options)
    results = {f"weight {i} {v.name}": v.numpy() for i, v in enumerate(model.weights)}
    results |= {f"history {k}": np.asarray(v) for k, v in history.history.items()}
    if tiers.quick() and name not in EVALUATED:
        return results
    evaluation = model.evaluate(x, y, batch_size=BATCH, verbose=0, return_dict=True)
    predictions = model.predict(x, batch_size=BATCH, verbose=0)
    results |= {f"evaluate {k}": np.asarray(v) for k, v in evaluation.items()}
    predictions = predictions if isinstance(predictions, dict) else {"y": predictions}
    results |= {f"predict {k}": v for k, v in predictions.items()}
    return results
