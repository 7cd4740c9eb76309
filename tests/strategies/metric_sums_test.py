import keras
import numpy as np
from upstream import two_cpus

from tfdist.strategies import metric_sums as module

X, Y = np.linspace(-1.0, 1.0, 24).reshape(8, 3), np.ones((8, 1))


def compiled(strategy, **options):
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", **options)
    return model


def test_metric_variables_are_listed_once():
    model = compiled(two_cpus(), metrics=["mae", "mse"])
    model.evaluate(X, Y, verbose=0)
    found = module.metric_variables(model)
    expected = {id(v) for metric in model.metrics for v in metric.variables}
    assert {id(v) for v in found} == expected and len(found) == len(expected) == 6


def test_one_worker_needs_no_global_copies():
    strategy = two_cpus()
    model = compiled(strategy, metrics=["mae"])
    model.evaluate(X, Y, verbose=0)
    before = len(strategy.extended.worker_devices), len(model.variables)
    module.keep_global_copies(strategy, model)
    assert before == (2, len(model.variables))
    assert all("_tfdist_global_copy" not in vars(v.value) for v in module.metric_variables(model))
