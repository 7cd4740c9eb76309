"""Coordinators, workers and parameter servers that are killed, and what the others do."""

import json
import os
import pathlib
import signal
import socket
import sys
import time

import pytest
import slowness
from programs import Programs, wait_until_gone

WORKER = pathlib.Path(__file__).resolve().parent.parent / "async_worker.py"
STEPS = 151  # 301 examples by two
DEADLINE_S = 90


def pids(text):
    """By job and index, the last process that printed its number."""
    found = {}
    for line in text.splitlines():
        words = line.partition("pid ")[2].split()
        if len(words) == 3:
            found[words[0], int(words[1])] = int(words[2])
    return found


@pytest.fixture
def programs():
    with Programs() as all_of_them:
        yield all_of_them


@pytest.mark.timeout(200)
def test_a_killed_worker_comes_back_and_no_step_is_lost(programs):
    epochs = 8  # the later ones with both workers again
    environment = {**os.environ, "EPOCHS": str(epochs)}
    run = programs.run("-n", "2", "--ps", "1", WORKER, env=environment)
    os.kill(pids(run.wait_for("step 30"))["worker", 0], signal.SIGKILL)
    assert run.wait(DEADLINE_S) == 0, run.err
    assert "worker 0 was killed by signal 9" in run.err
    assert "starting it again, the others go on" in run.err
    assert run.out.count("pid worker 0") == 2
    # Without a fault in the moment of an update: each step is counted once.
    assert f"[chief] done {epochs * STEPS} 301" in run.out
    (line,) = (line for line in run.out.splitlines() if "by worker 0:" in line)
    shares = json.loads(line.partition(":")[2])
    assert len(shares) == epochs and shares[-1] > 0


@pytest.mark.timeout(200)
def test_a_killed_parameter_server_ends_all(programs):
    run = programs.run("-n", "2", "--ps", "1", WORKER)
    every = pids(run.wait_for("step 20"))
    killed = time.monotonic()
    os.kill(every["ps", 0], signal.SIGKILL)
    assert run.wait(DEADLINE_S) == 128 + signal.SIGKILL
    assert time.monotonic() - killed < slowness.seconds(15)
    assert "ps 0 was killed by signal 9" in run.err
    wait_until_gone(every.values())


@pytest.mark.timeout(200)
def test_a_killed_parameter_server_resumes_from_the_last_checkpoint(programs, tmp_path):
    run = programs.run("-n", "2", "--ps", "1", "--max-restarts", "1", WORKER, tmp_path / "ckpt")
    os.kill(pids(run.wait_for("step 45"))["ps", 0], signal.SIGKILL)
    assert run.wait(2 * DEADLINE_S) == 0, run.err
    begins = [int(line.split()[-1]) for line in run.out.splitlines() if "begins with" in line]
    assert begins[0] == 0
    assert begins[1] >= 40 and begins[1] % 10 == 0
    assert f"[chief] done {STEPS} 301" in run.out


@pytest.mark.slow  # gang_test ends all when one ends, without TensorFlow
@pytest.mark.timeout(200)
def test_a_killed_coordinator_ends_all(programs):
    run = programs.run("-n", "2", "--ps", "1", WORKER)
    every = pids(run.wait_for("step 20"))
    os.kill(every["chief", 0], signal.SIGKILL)
    assert run.wait(DEADLINE_S) == 128 + signal.SIGKILL
    assert "chief was killed by signal 9" in run.err
    wait_until_gone(every.values())


def by_hand(programs, jobs):
    """Starts the program on all tasks of a cluster without a launcher."""
    started = {}
    for job, addresses in jobs.items():
        for index in range(len(addresses)):
            config = {"cluster": jobs, "task": {"type": job, "index": index}}
            environment = {**os.environ, "TF_CONFIG": json.dumps(config), "TFDIST_TIMEOUT": "60"}
            argv = [sys.executable, WORKER]
            started[job, index] = programs.start(argv, env=environment)
    return started


def free_cluster(workers):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 + workers)]
    chief, ps, *others = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return {"chief": [chief], "ps": [ps], "worker": others}


@pytest.mark.slow  # what the coordinator says, the launcher of the first ones passes on
@pytest.mark.timeout(200)
def test_without_a_launcher_the_coordinator_names_the_lost_server_and_the_others_end(programs):
    jobs = free_cluster(workers=1)
    started = by_hand(programs, jobs)
    chief = started["chief", 0]
    chief.wait_for("step 20")
    killed = time.monotonic()
    started["ps", 0].signal(signal.SIGKILL)
    assert chief.wait(DEADLINE_S) == 1
    assert time.monotonic() - killed < slowness.seconds(15)
    assert f"parameter server 0 ({jobs['ps'][0]}) was lost during `fit`" in chief.err
    assert started["worker", 0].wait(DEADLINE_S) == 0  # its coordinator has ended


@pytest.mark.timeout(100)
def test_a_server_that_does_not_come_is_named(programs):
    jobs = free_cluster(workers=1)
    config = {"cluster": jobs, "task": {"type": "chief", "index": 0}}
    environment = {
        **os.environ,
        "TF_CONFIG": json.dumps(config),
        "TFDIST_START_TIMEOUT": "1",
    }
    chief = programs.start([sys.executable, WORKER], env=environment)
    assert chief.wait(60) == 1
    assert f"worker 0 ({jobs['worker'][0]}), parameter server 0 ({jobs['ps'][0]})" in chief.err
    assert "did not come within 1 s" in chief.err
