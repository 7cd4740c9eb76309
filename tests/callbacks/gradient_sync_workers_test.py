"""Gradient-sync callbacks on two real workers: what is killed, lost or raised there."""

import contextlib
import json
import os
import pathlib
import pickle
import re
import sys

import checkpoint_cases
import cloudpickle
import numpy as np
import pytest
import slowness
from programs import Programs

import tfdist

cloudpickle.register_pickle_by_value(sys.modules[__name__])
TESTS = pathlib.Path(checkpoint_cases.__file__).parent
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}


def _train(path, strategy, kills=()):
    """The results of each worker, and `[start, algorithm, step]` of each step of the chief."""
    with Programs() as programs:
        workers = 2 if strategy == "multi" else 1
        program = programs.run(
            *("-n", workers, "--max-restarts", len(kills), TESTS / "gradient_sync_worker.py"),
            *(strategy, path / "checkpoints", path / "out", json.dumps(kills)),
            env=ENVIRONMENT,
        )
        assert program.wait(400) == 0, program.err[-5000:]
    results = [pickle.loads((path / f"out.{rank}").read_bytes()) for rank in range(workers)]
    steps = [json.loads(line) for line in (path / "out.steps").read_text().splitlines()]
    return results, steps


# The chief in the middle of an epoch, and of a period (the checkpoint is of step 3); the
# other one at the end of an epoch, while the average is shown (the checkpoint is of step
# 6); the chief at step 12, whose checkpoint is not written.
KILLS = [[0, "LocalSGD", "step", 5], [1, "DiLoCo", "epoch", 1], [0, "PartialSync", "step", 12]]
GOES_ON = [("LocalSGD", 1), ("LocalSGD", 4), ("DiLoCo", 7), ("PartialSync", 10)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["multi", "mirrored"])
def test_killed_trainings_go_on_and_end_with_the_same_bits(tmp_path, strategy):
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, _ = _train(tmp_path / "whole", strategy)
    kills = [[rank if strategy == "multi" else 0, *where] for rank, *where in KILLS]
    cut, steps = _train(tmp_path / "cut", strategy, kills)
    # Each start goes on where the last left off: what had ended makes not one step.
    firsts = {}
    for start, algorithm, step in steps:
        firsts.setdefault(start, (algorithm, step))
    assert list(firsts.values()) == GOES_ON
    assert cut == whole
    assert whole[0] == whole[-1]


def _misbehave(mode, timeout):
    with Programs() as programs:
        program = programs.run(
            *("-n", "2", TESTS / "misbehaving_worker.py", mode, "LocalSGD"),
            env={**ENVIRONMENT, "TFDIST_TIMEOUT": str(timeout)},
        )
        code = program.wait(90)
        return code, program.out, program.err


def test_a_worker_killed_between_two_synchronisations_ends_the_other():
    code, out, err = _misbehave("is killed", round(slowness.seconds(60)))
    assert code == 137
    assert re.search(r"worker 1 \(127.0.0.1:\d+\) was lost during `fit`", err), err[-3000:]
    assert "a step was made" in out and "trained" not in out


@pytest.mark.slow  # as below and in multi_worker_faults_test
def test_a_worker_stopped_between_two_synchronisations_ends_the_other():
    code, out, err = _misbehave("is stopped", round(slowness.seconds(90)))
    assert code != 0
    assert re.search(r"worker 1 \(127.0.0.1:\d+\) was lost during `fit`", err), err[-3000:]
    assert "trained" not in out


@pytest.mark.slow
def test_a_worker_that_stays_away_between_two_synchronisations_is_named():
    timeout = round(slowness.seconds(8))
    code, _, err = _misbehave("sleeps in a callback", timeout)
    assert code != 0
    said = rf"TimeoutError: worker 1 \(127.0.0.1:\d+\) did not answer within {timeout} s"
    assert re.search(said, err)


def _session():
    """Runs on each worker; returns what the tests look at."""
    import gc

    import keras

    import tfdist
    from tfdist.callbacks import DiLoCo, LocalSGD

    strategy = tfdist.MultiWorkerMirroredStrategy()
    x, y = _data()

    class Raising(keras.callbacks.Callback):
        def __init__(self, where):
            super().__init__()
            self.where = where

        def on_train_batch_end(self, batch, logs=None):
            if self.where == batch:
                raise KeyboardInterrupt

        def on_epoch_end(self, epoch, logs=None):
            if self.where == "epoch":
                raise KeyboardInterrupt

    class OwnLogs(keras.Model):
        """Its train step returns a number of its own, which is no metric."""

        def train_step(self, data):
            logs = super().train_step(data)
            inputs = keras.utils.unpack_x_y_sample_weight(data)[0]
            return {**logs, "own": keras.ops.mean(inputs)}

    # The models that are dropped on the way are gone on one worker, and still there on the other.
    gc.disable()

    def build(kind=keras.Sequential):
        if tfdist.is_chief():
            gc.collect()
        keras.utils.set_random_seed(3)
        with strategy.scope():
            inputs = keras.Input((4,))
            model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
            if kind is OwnLogs:
                model = OwnLogs(inputs, model.outputs)
            model.compile(keras.optimizers.SGD(0.05), "mse")
        return model

    def fit(model, *callbacks, epochs=1):
        options = {"batch_size": 8, "shuffle": False, "verbose": 0, "epochs": epochs}
        return model.fit(x, y, callbacks=list(callbacks), **options).history

    found = {}
    for name, where in (("ended", None), ("batch", 1), ("epoch", "epoch")):
        model = build()
        with contextlib.suppress(KeyboardInterrupt):
            fit(model, LocalSGD(3), Raising(where))
        before = model.get_weights()
        history = fit(model, epochs=2)
        found[name] = before, model.get_weights(), history
    model = build(OwnLogs)
    found["own logs"] = fit(model, DiLoCo(3), epochs=2)
    found["optimizer"] = [v.numpy() for v in model.optimizer.variables]
    return found


def _data():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(53, 4)).astype("float32") + np.linspace(0, 1, 53)[:, None]
    return x.astype("float32"), (x[:, :1] * 2 + 1).astype("float32")


@pytest.fixture(scope="module")
def session():
    return tfdist.run(_session, workers=2, timeout=slowness.seconds(240))


@pytest.mark.parametrize("name", ["ended", "batch", "epoch"])
def test_a_fit_without_the_callback_is_plain_however_the_one_before_ended(session, name):
    (before, after, history), (_, other_after, other_history) = (w[name] for w in session)
    assert set(history) == {"loss"}
    kernel, bias = (value.astype("float64") for value in before)
    x, y = (value.astype("float64") for value in _data())
    for _ in range(2):
        for begin in range(0, len(x), 8):
            inputs, targets = x[begin : begin + 8], y[begin : begin + 8]
            error = 2 * (inputs @ kernel + bias - targets) / len(inputs)
            kernel, bias = kernel - 0.05 * inputs.T @ error, bias - 0.05 * error.sum(0)
    np.testing.assert_allclose(after[0], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after[1], bias, rtol=1e-4, atol=1e-5)
    assert [w.tobytes() for w in after] == [w.tobytes() for w in other_after]
    assert history == other_history


def test_workers_end_an_epoch_with_the_same_logs(session):
    """Or a callback would stop on one of them alone."""
    chief, other = (worker["own logs"] for worker in session)
    assert {k: v for k, v in chief.items() if k != "sync_seconds"} == {
        k: v for k, v in other.items() if k != "sync_seconds"
    }
    x, _ = _data()
    mean_of_replicas = (x[48:51].mean() + x[51:].mean()) / 2
    np.testing.assert_allclose(chief["own"], [mean_of_replicas] * 2, rtol=1e-5)


def test_workers_end_with_the_same_optimizer(session):
    chief, other = (worker["optimizer"] for worker in session)
    assert [v.tobytes() for v in chief] == [v.tobytes() for v in other]
