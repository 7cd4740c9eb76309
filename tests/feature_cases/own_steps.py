"""Train steps of the user's own, as guides and forums write them: their losses and their logs."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from feature_cases.common import BATCH, SLOW, X, Y, feature, fit

LABELS = (Y > 1).astype("float32")


class OwnStep(keras.Model):
    """A model whose step computes its loss by `loss_of` and logs what `logs_of` returns."""

    def __init__(self, loss_of, logs_of, activation=None):
        inputs = keras.Input((6,))
        kernel = layers.Dense(1, activation=activation, kernel_regularizer="l2")
        super().__init__(inputs, kernel(inputs))
        self._loss_of, self._logs_of = loss_of, logs_of

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            predictions = self(x, training=True)
            loss = self._loss_of(self, y, predictions)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return self._logs_of(self, loss, y, predictions)

    def test_step(self, data):
        x, y = data
        predictions = self(x, training=False)
        return self._logs_of(self, self._loss_of(self, y, predictions), y, predictions)


def _trained(loss_of, logs_of, labels=Y, activation=None, **compile):
    model = OwnStep(loss_of, logs_of, activation)
    model.compile(keras.optimizers.SGD(0.05), **compile)
    found = fit(model, X, labels, validation_data=(X, labels))
    found = {"/".join(map(str, path)): v for path, v in keras.tree.flatten_with_path(found)}
    return {**found, "weight": model.get_weights()[0]}


def _mean_loss(model, y, predictions):
    return tf.reduce_mean((predictions - y) ** 2)


def _raw(model, loss, y, predictions):
    return {"raw": loss}


@feature(quick=SLOW)
def average_loss_of_the_global_batch():
    def loss_of(model, y, predictions):
        per_example = tf.reduce_mean((predictions - y) ** 2, axis=-1)
        loss = tf.nn.compute_average_loss(per_example, global_batch_size=BATCH)
        return loss + tf.nn.scale_regularization_loss(tf.add_n(model.losses))

    return _trained(
        loss_of, lambda model, loss, y, predictions: {"weight loss": tf.add_n(model.losses)}
    )


@feature
def average_loss_of_the_default_batch_and_a_mean():
    def loss_of(model, y, predictions):
        error = predictions - y
        mean = tf.nn.compute_average_loss(error[:, 0] ** 2, sample_weight=1.0 + y[:, 0] ** 2)
        return mean + tf.reduce_mean(tf.abs(error))

    return _trained(loss_of, _raw)


@feature(quick=SLOW)
def loss_object_averaged_by_hand_in_own_step():
    bce = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")

    def loss_of(model, y, predictions):
        return tf.reduce_mean(bce(y, predictions) * (1.0 + 3.0 * y[:, 0]))

    return _trained(loss_of, _raw, LABELS)


@feature
def loss_object_averaged_by_hand_in_compiled_loss_and_metric():
    bce = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")
    summed = keras.losses.MeanSquaredError(reduction="sum")

    def weighted(y, predictions):
        return tf.reduce_mean(bce(y, predictions) * (1.0 + 3.0 * y[:, 0]))

    def own_mean(y, predictions):
        return summed(y, predictions) / tf.cast(tf.shape(y)[0], "float32")

    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), weighted, metrics=[lambda y, p: bce(y, p), own_mean])
    found = fit(model, X, LABELS)
    evaluated = model.evaluate(X, LABELS, batch_size=BATCH, verbose=0)
    return {**found, "evaluated": evaluated, "weight": model.get_weights()[0]}


@feature
def unreduced_and_reduced_heads():
    inputs = keras.Input((6,))
    outputs = [layers.Dense(1, name=name)(inputs) for name in ("a", "b")]
    model = keras.Model(inputs, outputs)
    losses = [keras.losses.MeanSquaredError(reduction="none"), "mae"]
    model.compile(keras.optimizers.SGD(0.001), losses)
    found = fit(model, X, [Y, -Y])
    return {"loss": found["loss"], "weights": np.concatenate(model.get_weights()[::2])}


@feature(quick=SLOW)
def raw_loss_log_beside_others():
    def logs_of(model, loss, y, predictions):
        return {"loss": loss, "total_loss": loss + 0.0}

    return _trained(_mean_loss, logs_of)


@feature
def metrics_as_the_guide_logs_them():
    def logs_of(model, loss, y, predictions):
        for metric in model.metrics:
            if metric.name != "loss":
                metric.update_state(y, predictions)
        return {m.name: m.result() for m in model.metrics if m.name != "loss"}

    metrics = [keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="p")]
    return _trained(
        _mean_loss, logs_of, LABELS, "sigmoid", loss="binary_crossentropy", metrics=metrics
    )


@feature
def logs_computed_from_metrics():
    recall, precision = keras.metrics.Recall(name="r"), keras.metrics.Precision(name="p")

    def logs_of(model, loss, y, predictions):
        for metric in (recall, precision):
            metric.update_state(y, predictions)
        r, p = recall.result(), precision.result()
        return {
            "loss": loss,
            "f1": 2.0 * r * p / (r + p + 1e-6),
            "nested": {"twice": 2.0 * r, "p": precision.result()},
            "misses": 1.0 - r,
            "positives": precision.true_positives + precision.false_positives,
            "rate": model.optimizer.learning_rate,
            "constant": 0.1,
        }

    class Tracked(OwnStep):
        @property
        def metrics(self):
            return [recall, precision]

    model = Tracked(_mean_loss, logs_of, "sigmoid")
    model.compile(keras.optimizers.SGD(0.05))
    found = fit(model, X, LABELS, validation_data=(X, LABELS))
    return {"/".join(map(str, p)): v for p, v in keras.tree.flatten_with_path(found)}


@feature
def metric_under_another_key_with_XLA():
    def logs_of(model, loss, y, predictions):
        model.seen.update_state(predictions)
        return {"another": 3.0 * model.seen.result()}

    model = OwnStep(_mean_loss, logs_of)
    model.seen = keras.metrics.Mean("seen")
    model.compile(keras.optimizers.SGD(0.05), jit_compile=True)
    # Equal batches: the metric's mean is over the replicas' elements.
    return fit(model, X[:48], Y[:48])
