import keras
import numpy as np
from upstream import require

from tfdist.compat.compiled import compiled_with


def error(y, p):
    return keras.ops.mean(keras.ops.abs(y - p), axis=-1)


def compiled(**arguments):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", **arguments)
    return model


def test_upstream():
    model = compiled(loss="mse", metrics=["mae"])
    require(model, "_compile_loss", "_compile_metrics")
    require(model._compile_loss, "_user_loss", "_user_loss_weights")
    require(model._compile_metrics, "_user_metrics", "_user_weighted_metrics")


def test_all_comes_back_and_metrics_are_new():
    metric = keras.metrics.MeanAbsoluteError(name="own")
    found = compiled_with(compiled(loss=error, metrics=[metric, error], weighted_metrics=["mse"]))
    assert found["loss"] is error and found["loss_weights"] is None
    assert found["metrics"][1] is error and found["weighted_metrics"] == ["mse"]
    assert found["metrics"][0] is not metric
    assert found["metrics"][0].get_config() == metric.get_config()
    other = compiled(**found)
    logs = other.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0, return_dict=True)
    assert {*logs} == {"loss", "own", "error", "mse"}
    assert float(metric.count) == 0


def test_a_model_without_a_loss():
    assert compiled_with(compiled())["loss"] is None
