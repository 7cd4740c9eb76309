"""What `evaluate` gives: by Keras itself, without a strategy, on replicas and on workers."""

import sys

import cloudpickle
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from upstream import two_cpus

import tfdist
from tfdist import model_compression as compression

cloudpickle.register_pickle_by_value(sys.modules[__name__])

X = np.random.default_rng(0).normal(size=(30, 6)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 30)


def network(width, compiled=True, name="network"):
    keras.utils.set_random_seed(width)
    stack = [keras.Input((6,)), layers.Dense(width, "relu", name="a"), layers.Dense(3, name="b")]
    model = keras.Sequential(stack, name=name)
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(
            "sgd", loss, metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)]
        )
    return model


def expected(model):
    logits = model.predict(X, verbose=0)
    logits = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(logits).sum(-1)) - logits[np.arange(30), Y]
    ranks = (logits > logits[np.arange(30), Y][:, None]).sum(-1)
    return {
        "loss": losses.mean(),
        "accuracy": (ranks == 0).mean(),
        "sparse_top_k_categorical_accuracy": (ranks < 2).mean(),
    }


def test_a_model_that_is_not_compiled_gets_the_others_loss_and_metrics():
    model, small = network(8), network(4, compiled=False)
    report = compression.report(model, small, data=(X, Y))
    assert report.before.metrics == pytest.approx(expected(model), abs=1e-5)
    assert report.after.metrics == pytest.approx(expected(small), abs=1e-5)
    assert not small.compiled
    assert report.after.notes == ["Not compiled: evaluated with the other one's loss and metrics."]
    assert report.before.notes == []
    again = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert again == pytest.approx(report.before.metrics, abs=1e-6)


def test_the_first_may_be_the_one_that_is_not_compiled():
    model, small = network(8, compiled=False), network(4)
    report = compression.report(
        model, small, data=tf.data.Dataset.from_tensor_slices((X, Y)).batch(7)
    )
    assert report.before.metrics == pytest.approx(expected(model), abs=1e-5)
    assert report.before.notes and not report.after.notes


def test_metrics_of_ones_own_and_weights():
    def error(y, p):
        return keras.ops.mean(keras.ops.abs(p), axis=-1)

    model, other = network(8, compiled=False), network(4, compiled=False)
    model.compile("sgd", error, weighted_metrics=[error])
    weights = np.linspace(0, 1, 30)
    report = compression.report(model, other, data=(X, Y, weights))
    values = np.abs(other.predict(X, verbose=0)).mean(-1)
    assert report.after.metrics["loss"] == pytest.approx((weights * values).mean(), rel=1e-4)
    assert report.after.metrics["error"] == pytest.approx(
        np.average(values, weights=weights), rel=1e-4
    )


def test_two_replicas():
    with two_cpus().scope():
        model, small = network(8), network(4, compiled=False)
    report = compression.report(model, small, data=(X, Y))
    assert report.before.metrics == pytest.approx(expected(model), abs=1e-5)
    assert report.after.metrics == pytest.approx(expected(small), abs=1e-5)
    assert report.after.total("macs") == 6 * 4 + 4 * 3
    assert report.after.latency is not None


def on_worker():
    with tfdist.auto_strategy().scope():
        model, small = network(8), network(4, compiled=False)
    report = tfdist.model_compression.report(model, small, data=(X, Y))
    return [one.metrics for one in report.models], str(report)


def test_two_workers():
    for metrics, text in tfdist.run(on_worker, workers=2, timeout=240):
        for found, width in zip(metrics, (8, 4)):
            assert found == pytest.approx(expected(network(width)), abs=1e-5)
        assert "accuracy" in text


def test_bad_data():
    model, other = network(8, compiled=False, name="one"), network(8, compiled=False, name="other")
    with pytest.raises(ValueError, match=r"'one' and 'other' is not compiled: expected `compile"):
        compression.report(model, other, data=(X, Y))
    for data in (X, (X,), {"x": X}):
        with pytest.raises(ValueError, match=r"data is a .*: expected \(x, y\)"):
            compression.report(network(8), data=data)
