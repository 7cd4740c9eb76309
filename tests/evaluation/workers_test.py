"""Two real workers: one report, or an error that says why not."""

import contextlib
import sys

import cloudpickle
import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf

import tfdist

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 4)).astype("float32")
    return x, (x[:, 0] > 0).astype(int)


def model_of(scope):
    keras.utils.set_random_seed(1)
    with scope:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
        model.compile("sgd", "binary_crossentropy")
    return model


def session():
    strategy = tfdist.MultiWorkerMirroredStrategy()
    model = model_of(strategy.scope())
    x, y = data()
    found = {}
    for name, source in {
        "arrays": (x, y),
        "tf.data": tf.data.Dataset.from_tensor_slices((x, y)).batch(5),
    }.items():
        report = tfdist.evaluate(model, source, bootstrap=20, batch_size=8)
        found[name] = report.to_json(), report.scores
    rank = tfdist.rank()
    for name, source in {
        "other examples": (x + rank, y),
        "fewer examples": (x[rank:], y[rank:]),
    }.items():
        try:
            tfdist.evaluate(model, source, bootstrap=0)
            found[name] = None
        except RuntimeError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def workers():
    return tfdist.run(session, workers=2, timeout=slowness.seconds(240))


@pytest.mark.parametrize("source", ["arrays", "tf.data"])
def test_all_get_the_report_of_one_process(workers, source):
    chief, other = workers
    assert chief[source][0] == other[source][0]
    alone = model_of(contextlib.nullcontext()).predict(data()[0], verbose=0)[:, 0]
    for worker in workers:
        np.testing.assert_allclose(worker[source][1], alone, rtol=1e-5)


@pytest.mark.parametrize("source", ["other examples", "fewer examples"])
def test_other_data_on_a_worker_is_an_error_on_all(workers, source):
    for worker in workers:
        assert "is not doing what the chief" in worker[source]
        assert "in `tfdist.evaluate` (part 0 of the data)" in worker[source]
