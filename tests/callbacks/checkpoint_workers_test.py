"""Two workers that share no disk: kill -9 of either, and the same command again."""

import json
import os
import pathlib
import pickle
import subprocess
import sys

import checkpoint_cases
import pytest
import slowness

WORKER = pathlib.Path(checkpoint_cases.__file__).with_name("checkpoint_worker.py")


def _run(directory, out, data="arrays", kills=(), restarts=0):
    command = [sys.executable, "-m", "tfdist.cli", "run", "-n", "2"]
    command += ["--max-restarts", str(restarts), WORKER, directory, out, data, json.dumps(kills)]
    process = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=slowness.seconds(280),
    )
    assert process.returncode == 0, process.stdout[-5000:]
    return [pickle.loads(pathlib.Path(f"{out}.{rank}").read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole")
    return _run(path / "checkpoints", path / "out")


@pytest.mark.timeout(300)
def test_killed_workers_resume_by_themselves_and_end_with_the_same_bits(whole, tmp_path):
    # The chief in the middle of the first epoch; then the other one at a step whose
    # checkpoint only the chief has written when it dies.
    kills = [[0, 5], [1, 12]]
    cut = _run(tmp_path / "checkpoints", tmp_path / "out", kills=kills, restarts=2)
    text = pathlib.Path(f"{tmp_path}/out.starts").read_text()
    starts = [json.loads(line) for line in text.splitlines()]
    assert [start for start, _, _ in starts] == [0, 1, 2]
    # The first step that each start does: after the checkpoints of steps 3 and 9.
    assert [step for _, step, _ in starts] == [1, 4, 10]
    assert cut == whole
    assert cut[0]["history"] == cut[1]["history"]


def test_both_workers_have_the_same_weights(whole):
    # Batch normalization's statistics and metrics included.
    assert whole[0] == whole[1]
