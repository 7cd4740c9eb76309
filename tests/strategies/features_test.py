"""What plain Keras does in one process, it does on replicas, with the same numbers."""

import os
import pathlib
import subprocess
import sys

import feature_cases
import feature_results
import pytest

WORKER = pathlib.Path(feature_results.__file__).with_name("feature_worker.py")
TOPOLOGIES = {
    "one device": ("mirrored", 1, 1),
    "mirrored x2": ("mirrored", 1, 2),
    "2 workers": ("multi", 2, 1),
    "2 workers x2": ("multi", 2, 2),
}
SLOW = ("2 workers x2",)
# A hundred layers: as long as twenty of the others.
SLOW_FEATURE = "keras applications"


def _try_all(strategy, workers, logical_cpus, out, features):
    command = [sys.executable, str(WORKER), strategy, str(logical_cpus), str(out), *features]
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
    return [feature_results.read(f"{out}.{i}") for i in range(workers)]


@pytest.fixture(scope="module")
def features(request):
    """The names of those that this run has selected, of any topology."""
    selected = {
        item.callspec.params["name"] for item in request.session.items if item.path == request.path
    }
    return [name for name in feature_cases.FEATURES if name in selected]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, features):
    return _try_all("none", 1, 1, tmp_path_factory.mktemp("one") / "out", features)[0]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [], id=name)
        for name in TOPOLOGIES
    ],
)
def workers(request, tmp_path_factory, features):
    return _try_all(*TOPOLOGIES[request.param], tmp_path_factory.mktemp("many") / "out", features)


@pytest.mark.timeout(800)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name == SLOW_FEATURE else [])
        for name in feature_cases.FEATURES
    ],
)
def test_feature_is_that_of_one_process(one_process, workers, name):
    for worker in workers:
        feature_cases.assert_same(name, one_process[name], worker[name])
