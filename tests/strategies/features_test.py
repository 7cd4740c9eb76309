"""What plain Keras does in one process, it does on replicas, with the same numbers."""

import os
import pathlib
import pickle
import subprocess
import sys

import feature_cases
import numpy as np
import pytest

WORKER = pathlib.Path(feature_cases.__file__).with_name("feature_worker.py")
TOPOLOGIES = {"mirrored x2": ("mirrored", 1, 2), "2 workers": ("multi", 2, 1)}


def _try_all(strategy, workers, logical_cpus, out):
    command = [sys.executable, str(WORKER), strategy, str(logical_cpus), str(out)]
    if workers > 1:
        command = [sys.executable, "-m", "tfdist.cli", "run", "-n", str(workers), *command[1:]]
    process = subprocess.run(
        command,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "TFDIST_TIMEOUT": "60"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stdout[-5000:]
    return [pickle.loads(pathlib.Path(f"{out}.{i}").read_bytes()) for i in range(workers)]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    return _try_all("none", 1, 1, tmp_path_factory.mktemp("one") / "out")[0]


@pytest.fixture(scope="module", params=TOPOLOGIES)
def workers(request, tmp_path_factory):
    return _try_all(*TOPOLOGIES[request.param], tmp_path_factory.mktemp("many") / "out")


@pytest.mark.timeout(800)
@pytest.mark.parametrize("name", feature_cases.FEATURES)
def test_feature_is_that_of_one_process(one_process, workers, name):
    expected = one_process[name]
    assert not isinstance(expected, str), expected
    for worker in workers:
        found = worker[name]
        assert not isinstance(found, str), found
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5, err_msg=key)
