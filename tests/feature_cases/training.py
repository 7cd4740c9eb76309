"""What `compile` and `fit` do to losses, gradients and metrics."""

import keras
import numpy as np
from keras import layers

from feature_cases.common import BATCH, EACH_KIND, EXAMPLES, SLOW, X, Y, feature, fit, small_model


@feature(quick=SLOW)
def gradient_accumulation():
    return fit(small_model(optimizer=keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)))


@feature(quick=EACH_KIND)
def run_eagerly():
    return fit(small_model(run_eagerly=True), epochs=1)


@feature(quick=SLOW)
def clipping():
    return fit(small_model(optimizer=keras.optimizers.SGD(0.05, global_clipnorm=0.5)))


@feature(quick=SLOW)
def EMA():
    return fit(small_model(optimizer=keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.9)))


@feature(quick=SLOW)
def learning_rate_schedule():
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 14)
    model = small_model(optimizer=keras.optimizers.SGD(schedule))
    found = fit(model)
    return {**found, "steps": float(keras.ops.convert_to_numpy(model.optimizer.iterations))}


@feature(quick=SLOW)
def class_weight():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    return fit(model, X, (Y[:, 0] > 1).astype("int32"), class_weight={0: 1.0, 1: 3.0})


@feature
def sample_weight():
    model = small_model(weighted_metrics=["mse"])
    return fit(model, sample_weight=np.linspace(0, 2, EXAMPLES))


@feature
def unreduced_loss():
    # Equal batches: Keras weighs the mean of such losses by the square of the batch.
    model = small_model(
        optimizer=keras.optimizers.SGD(0.005), loss=keras.losses.MeanSquaredError(reduction="none")
    )
    found = fit(model, X[:48], Y[:48])
    return {**found, "weight": model.get_weights()[0]}


@feature(quick=SLOW)
def frozen_layers():
    model = small_model()
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(0.05), "mse")
    found = fit(model)
    return {**found, "frozen": model.get_weights()[0]}


@feature
def second_fit_and_compile():
    model = small_model()
    first = fit(model)["loss"]
    model.compile(keras.optimizers.Adam(0.01), "mae")
    return {"first": first, "second": fit(model, batch_size=16)["loss"]}


@feature(quick=EACH_KIND)
def custom_metric():
    class LargestError(keras.metrics.Metric):
        """A sum, as all of Keras' own state is: of squared errors above one."""

        def __init__(self):
            super().__init__(name="large")
            self.total = self.add_weight(initializer="zeros", name="total")

        def update_state(self, y, predictions, sample_weight=None):
            error = keras.ops.square(y - predictions)
            self.total.assign_add(keras.ops.sum(keras.ops.where(error > 1, error, 0.0)))

        def result(self):
            return self.total

    return fit(small_model(metrics=[LargestError()]))


@feature(quick=EACH_KIND)
def AUC_precision_and_F1():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1, activation="sigmoid")])
    metrics = [
        keras.metrics.AUC(name="auc"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.F1Score(threshold=0.5, name="f1"),
    ]
    model.compile("adam", "binary_crossentropy", metrics=metrics)
    labels = (Y > 1).astype("float32")
    fit(model, X, labels)
    return model.evaluate(X, labels, batch_size=BATCH, verbose=0, return_dict=True)
