"""What comes out of a trained model: predictions and files."""

from concurrent import futures

import keras
import tensorflow as tf
from keras import layers

from feature_cases.common import BATCH, EACH_KIND, SLOW, X, Y, feature, fit, small_model, written


@feature(quick=EACH_KIND)
def predict_in_order():
    model = small_model()
    return {n: model.predict(X[:n], batch_size=BATCH, verbose=0) for n in (1, 2, 15, 50)}


@feature(quick=SLOW)
def predict_of_one_batch_and_several_at_once():
    model = small_model(steps_per_execution=3)
    one = model.predict(X[:BATCH], batch_size=BATCH, verbose=0)
    return {"one": one, "all": model.predict(X, batch_size=BATCH, verbose=0)}


@feature(quick=SLOW)
def predict_on_batch():
    model = small_model()
    return {n: model.predict_on_batch(X[:n]) for n in (1, 3)}


@feature
def boolean_predictions():
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.ops.greater(layers.Dense(2)(inputs), 0.0))
    return {"predictions": model.predict(X, batch_size=BATCH, verbose=0)}


@feature(quick=EACH_KIND)
def save_and_load(directory):
    model = small_model()
    fit(model)
    model.save(directory / "model.keras")
    loaded = keras.saving.load_model(written(directory / "model.keras"))
    found = fit(loaded)  # training goes on from the optimizer's state
    return {**found, "predictions": loaded.predict(X, verbose=0)}


@feature(quick=SLOW)
def save_weights_and_load_weights(directory):
    model = small_model()
    fit(model)
    model.save_weights(directory / "model.weights.h5")
    other = small_model()
    other.load_weights(written(directory / "model.weights.h5"))
    return {"predictions": other.predict(X, verbose=0)}


@feature
def export_for_serving(directory):
    model = small_model()
    fit(model)
    model.export(directory / "served", verbose=False)
    path = str(written(directory / "served"))

    def serve():
        served = tf.saved_model.load(path)
        return served.serve(X).numpy()

    with futures.ThreadPoolExecutor(1) as outside:  # a scope is that of its thread
        served = outside.submit(serve).result(60)
    return {"served": served, "predictions": model.predict(X, verbose=0)}


@feature
def evaluate_as_dict():
    return small_model().evaluate(X, Y, batch_size=BATCH, verbose=0, return_dict=True)
