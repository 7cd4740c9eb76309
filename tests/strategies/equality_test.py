"""N replicas train to the numbers of one process, on every kind of strategy."""

import os
import pathlib
import pickle
import subprocess
import sys

import equality_cases
import numpy as np
import pytest

WORKER = pathlib.Path(equality_cases.__file__).with_name("equality_worker.py")
# Float32 costs a second round of tracing: these see every path of the tail.
FLOAT32_CASES = {
    "SGD with momentum, last batch of one": 1e-5,
    "shuffled arrays": 1e-5,
    "convolution, synchronized BN": 1e-5,
    "Adam, last batch of one": 1e-4,
    "two heads, one masked": 1e-4,
    "loss scaling": 1e-4,
}
TOPOLOGIES = {"mirrored x2": ("mirrored", 1, 2), "2 workers": ("multi", 2, 1)}
TOPOLOGIES["2 workers x2"] = ("multi", 2, 2)
# By TensorFlow's gRPC it takes four minutes.
PARAMETERS = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "2 workers x2" else [])
    for name in TOPOLOGIES
]


def _train(strategy, workers, logical_cpus, out):
    command = [sys.executable, str(WORKER), strategy, str(logical_cpus), str(out)]
    command += ["float64", "+float32", *FLOAT32_CASES]
    if workers > 1:
        command = [sys.executable, "-m", "tfdist.cli", "run", "-n", str(workers), *command[1:]]
    process = subprocess.run(
        command,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TFDIST_TIMEOUT": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=800,
    )
    assert process.returncode == 0, process.stdout[-5000:]
    return [pickle.loads(pathlib.Path(f"{out}.{i}").read_bytes()) for i in range(workers)]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return _train("none", 1, 1, tmp_path_factory.mktemp("one") / "out")[0]


@pytest.fixture(scope="module", params=PARAMETERS)
def workers(request, tmp_path_factory):
    """Each worker's results, of all cases: started once for all of them."""
    return _train(*TOPOLOGIES[request.param], tmp_path_factory.mktemp("many") / "out")


def _assert_close(expected, actual, tolerance):
    assert not isinstance(expected, str), expected
    assert not isinstance(actual, str), actual
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(
            actual[name], value, rtol=0, atol=tolerance * np.linalg.norm(value), err_msg=name
        )


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("case", equality_cases.CASES)
def test_float64_is_one_process_to_rounding(one_process, workers, case):
    _assert_close(one_process[case, "float64"], workers[0][case, "float64"], 1e-9)


@pytest.mark.timeout(1000)
@pytest.mark.parametrize(("case", "tolerance"), FLOAT32_CASES.items())
def test_float32_is_one_process(one_process, workers, case, tolerance):
    _assert_close(one_process[case, "float32"], workers[0][case, "float32"], tolerance)


@pytest.mark.timeout(1000)
def test_workers_are_bit_identical(workers):
    for worker in workers[1:]:
        for key, results in workers[0].items():
            for name, value in results.items():
                assert value.tobytes() == worker[key][name].tobytes(), (key, name)
