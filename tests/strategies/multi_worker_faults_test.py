"""Two real workers: what goes wrong, and what each side then says."""

import ast
import os
import pathlib
import re

import keras
import numpy as np
import pytest
import slowness
from programs import Programs

WORKER = pathlib.Path(__file__).resolve().parent.parent / "misbehaving_worker.py"


# For a test to wait for, but longer than two workers come one behind the other.
SHORT_S = round(slowness.seconds(8))


def misbehave(mode, timeout=SHORT_S):
    with Programs() as programs:
        program = programs.run(
            *("-n", "2", WORKER, mode),
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TFDIST_TIMEOUT": str(timeout)},
        )
        code = program.wait(90)
        return code, program.out, program.err


@pytest.fixture(scope="module")
def disagreements():
    """What two workers print that disagree again and again; they are started once."""
    with Programs() as programs:
        program = programs.run(
            *("-n", "2", WORKER.with_name("disagreeing_worker.py")),
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        assert program.wait(120) == 0, program.err
        return program.out


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("other model", "variable 0 is (4, 5) float32 there and (4, 3) float32 on the chief"),
        ("other learning rate", "optimizer is "),
        ("fewer batches", "number of batches is 4 there and 8 on the chief"),
        ("other batch size", "batch size is 7 there and 8 on the chief"),
        ("other data", "data 0 is x (64, 4) float32 with contents "),
        ("a shard of its own", "x ShardDataset.index 1 there and x ShardDataset.index 0 on"),
    ],
)
def test_all_workers_say_how_they_disagree_before_any_work(disagreements, what, message):
    for rank in range(2):
        (said,) = re.findall(rf"^\[worker {rank}\] {what}: (.*)$", disagreements, re.MULTILINE)
        assert message in said
    assert f"a step was made: {what}" not in disagreements


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("TensorFlow in use", "must be made before TensorFlow runs anything"),
        # handshake_test and checks_test have them, without workers.
        pytest.param(
            *("other seed", "random seed is 2 there and 1 on the chief"), marks=pytest.mark.slow
        ),
    ],
)
def test_workers_that_disagree_end_before_any_work(mode, message):
    code, out, err = misbehave(mode, timeout=round(slowness.seconds(60)))
    assert code == 1
    assert message in err
    assert "a step was made" not in out


def test_a_model_made_outside_the_scope_trains_on_each_worker_alone():
    code, out, err = misbehave("outside the scope", timeout=60)
    assert code == 0, err
    for rank in range(2):  # which trains for so many steps and one
        keras.utils.set_random_seed(5)
        plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        plain.compile(keras.optimizers.SGD(0.1), "mse")
        rows = 8 * (1 + rank)
        plain.fit(np.ones((rows, 4), "float32"), np.ones((rows, 1), "float32"), 8, verbose=0)
        (line,) = re.findall(rf"^\[worker {rank}\] weights: (.*)$", out, re.MULTILINE)
        expected = np.concatenate([value.ravel() for value in plain.get_weights()])
        np.testing.assert_allclose(ast.literal_eval(line), expected, rtol=1e-6)
        alone = rf"^\[worker {rank}\] .*UserWarning: .* alone \(worker {rank} of 2\)"
        assert len(re.findall(alone, err, re.MULTILINE)) == 1


def test_weights_that_one_worker_changed_are_noticed_by_the_next_fit(disagreements):
    for rank in range(2):
        lines = re.findall(rf"^\[worker {rank}\] (.*)$", disagreements, re.MULTILINE)
        assert lines[-2] == "weights are set"  # behind the steps of the first `fit` alone
        assert re.match(
            r"other weights: .*weight \d+ is \S*kernel\S* [0-9a-f]{8} there ", lines[-1]
        )
        assert lines.count("a step was made: other weights") == 8


def test_a_call_that_one_worker_makes_alone_has_a_deadline():
    code, _, err = misbehave("evaluates alone")
    assert code != 0
    assert "worker 1 (127.0.0.1:" in err
    assert f"did not come to `evaluate` within {SHORT_S} s" in err


def test_a_worker_that_stays_away_from_a_step_is_named():
    code, _, err = misbehave("sleeps in a callback")
    assert code != 0
    said = rf"TimeoutError: worker 1 \(127.0.0.1:\d+\) did not answer within {SHORT_S} s"
    assert re.search(said, err)


def test_a_killed_worker_ends_the_others():
    code, out, err = misbehave("is killed", timeout=round(slowness.seconds(60)))
    assert code == 137
    assert "worker 1 was killed by signal 9" in err
    assert re.search(r"worker 1 \(127.0.0.1:\d+\) was lost during `fit`", err)
    assert "a step was made" in out


def test_a_stopped_worker_ends_the_others():
    # Its connections stay open: only the heartbeat misses it.
    code, out, err = misbehave("is stopped", timeout=round(slowness.seconds(90)))
    assert code != 0
    assert re.search(r"worker 1 \(127.0.0.1:\d+\) was lost during `fit`", err)
    assert "a step was made" in out


def test_a_workers_own_traceback_is_last():
    code, _, err = misbehave("raises", timeout=round(slowness.seconds(60)))
    assert code == 1
    assert "worker 1" in err
    assert err.rstrip().endswith("ValueError: raised by worker 1")
