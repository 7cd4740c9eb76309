import itertools
import json
import os
import signal
import sys
import time

import pytest
import slowness
from programs import Programs, is_running, wait_until_gone


@pytest.fixture
def programs():
    with Programs() as started:
        yield started


@pytest.fixture
def script(tmp_path):
    """Writes a worker's script, in which `rank` is its rank; returns the path."""

    def write(text):
        path = tmp_path / "train.py"
        head = "import json, os, sys, time\nrank = int(os.environ['TFDIST_LOCAL_RANK'])\n"
        path.write_text(head + text)
        return path

    return write


SLEEP = "\nprint('pid', os.getpid(), flush=True)\ntime.sleep(600)\n"


def pids(launcher, count):
    words = launcher.wait_for(" pid ", count).split()
    return [int(number) for word, number in itertools.pairwise(words) if word == "pid"]


def test_workers_see_one_cluster(programs, script):
    launcher = programs.run("-n", "3", script("print(os.environ['TF_CONFIG'])"))
    assert launcher.wait() == 0, launcher.err
    printed = sorted(line.split(" ", 2) for line in launcher.out.splitlines())
    assert [line[1] for line in printed] == ["0]", "1]", "2]"]
    configs = [json.loads(line[2]) for line in printed]
    assert [config["task"] for config in configs] == [
        {"type": "worker", "index": rank} for rank in range(3)
    ]
    (cluster,) = {json.dumps(config["cluster"]) for config in configs}
    assert len(set(json.loads(cluster)["worker"])) == 3


def test_one_worker_has_no_cluster(programs, script):
    launcher = programs.run("-n1", script("print(os.environ.get('TF_CONFIG'))"))
    assert launcher.wait() == 0
    assert launcher.out == "[worker 0] None\n"


def test_cores_are_divided(programs, script):
    text = "print(sorted(os.sched_getaffinity(0)))"
    cores = sorted(os.sched_getaffinity(0))
    assert programs.run("-n1", script(text)).wait_for("\n") == f"[worker 0] {cores}\n"
    if len(cores) < 2:
        pytest.skip("there is only one core to divide")
    bound = programs.run("-n2", script(text))
    assert bound.wait() == 0
    parts = [json.loads(line.split("] ", 1)[1]) for line in bound.out.splitlines()]
    assert sorted(parts[0] + parts[1]) == cores
    shared = programs.run("-n2", "--no-bind-cores", script(text))
    assert shared.wait() == 0
    assert shared.out.count(str(cores)) == 2


def test_gpus_are_divided(programs, script, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    show = script("print(os.environ['CUDA_VISIBLE_DEVICES'])")
    divided = programs.run("-n2", show)
    assert divided.wait() == 0
    assert sorted(divided.out.splitlines()) == ["[worker 0] 4", "[worker 1] 5"]
    assert divided.err == "tfdist run: 1 of 3 GPUs stay idle: each worker has 1\n"
    alike = programs.run("-n2", "--no-bind-gpus", show)
    assert alike.wait() == 0
    assert (alike.out.count("4,5,6"), alike.err) == (2, "")


def test_gpus_are_kept_from_parameter_servers(programs, script, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    show = script("print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\ntime.sleep(600)")
    launcher = programs.run("-n1", "--ps", "1", show)
    for line in ("[worker 0] 4\n", "[ps 0] -1\n", "[chief] -1\n"):
        launcher.wait_for(line)


def test_a_failure_ends_the_others_and_its_traceback_comes_last(programs, script):
    text = "if rank == 1:\n    print('about to fail', flush=True)\n    raise ValueError('mine')\n"
    launcher = programs.run("-n3", script(text + SLEEP))
    began = time.monotonic()
    assert launcher.wait() == 1
    assert time.monotonic() - began < slowness.seconds(10)
    wait_until_gone(pids(launcher, 2))
    lines = launcher.err.splitlines()
    at = lines.index("worker 1 failed with exit code 1; its last output:")
    assert lines[at + 1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: mine"
    assert "[worker 1] ValueError: mine" in lines[:at]


def test_a_peer_that_fails_in_consequence_is_not_blamed(programs, script):
    # Worker 0 fails as soon as its connection to worker 1 breaks, as in a collective.
    text = """
import socket
hosts = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
host, port = hosts[0].split(":")
if rank == 0:
    with socket.create_server((host, int(port))) as server:
        peer, _ = server.accept()
        peer.recv(1)
        raise ConnectionError("a consequence")
while True:
    try:
        peer = socket.create_connection((host, int(port)))
        break
    except ConnectionRefusedError:
        time.sleep(0.01)
os.kill(os.getpid(), 9)
"""
    launcher = programs.run("-n2", script(text))
    assert launcher.wait() == 128 + 9
    last = "worker 1 was killed by signal 9 (SIGKILL), perhaps for lack of memory"
    assert launcher.err.splitlines()[-1] == f"{last}; it printed nothing"


def test_stubborn_workers_are_killed_in_time(programs, script):
    text = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
if rank == 0:
    sys.exit(5)
"""
    launcher = programs.run("-n2", script(text + SLEEP))
    began = time.monotonic()
    assert launcher.wait() == 5
    assert time.monotonic() - began < slowness.seconds(10)
    wait_until_gone(pids(launcher, 1))


def test_restarts_have_fresh_ports_and_a_count(programs, script):
    text = """
count = os.environ["TFDIST_RESTART_COUNT"]
print("count", count, os.environ["TF_CONFIG"], flush=True)
if rank == 1 and count != "2":
    sys.exit(7)
if count != "2":
    time.sleep(600)
"""
    launcher = programs.run("-n2", "--max-restarts", "3", script(text))
    assert launcher.wait() == 0
    again = "worker 1 failed with exit code 7; starting all workers again, restart {} of 3"
    assert launcher.err.splitlines() == [again.format(1), again.format(2)]
    seen = {}
    for line in launcher.out.splitlines():
        _, _, _, count, config = line.split(" ", 4)
        seen.setdefault(count, set()).update(json.loads(config)["cluster"]["worker"])
    assert sorted(seen) == ["0", "1", "2"]
    assert len(set.union(*seen.values())) >= 4


def test_restarts_run_out_and_logs_have_all_attempts(programs, script, tmp_path):
    path = script("print('attempt', os.environ['TFDIST_RESTART_COUNT']); sys.exit(4 * rank)")
    logs = tmp_path / "a" / "b"
    launcher = programs.run("-n2", "--max-restarts=1", "--log-dir", logs, path)
    assert launcher.wait() == 4
    assert launcher.err.splitlines() == [
        "worker 1 failed with exit code 4; starting all workers again, restart 1 of 1",
        "worker 1 failed with exit code 4; its last output:",
        "attempt 1",
    ]
    assert (logs / "worker-1.log").read_text() == "attempt 0\nattempt 1\n"
    assert sorted(os.listdir(logs)) == ["worker-0.log", "worker-1.log"]


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_all(programs, script, number, code):
    launcher = programs.run("-n2", "--max-restarts=3", script(SLEEP))
    workers = pids(launcher, 2)
    launcher.signal(number)
    assert launcher.wait() == code
    wait_until_gone(workers)
    assert launcher.err.splitlines()[-1] == f"tfdist run was told to stop by {number.name}"


def test_a_second_signal_does_not_wait(programs, script):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
    # A sleep goes on after a handler.
    launcher = programs.run("-n1", script(stubborn + SLEEP))
    workers = pids(launcher, 1)
    launcher.signal(signal.SIGINT)
    launcher.wait_for("no")
    began = time.monotonic()
    launcher.signal(signal.SIGINT)
    assert launcher.wait() == 130
    assert time.monotonic() - began < 4  # the grace is 5
    wait_until_gone(workers)


def test_an_ignored_signal_stays_ignored(programs, script):
    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does

    launcher = programs.run("-n1", script(SLEEP), preexec_fn=ignore)
    workers = pids(launcher, 1)
    launcher.signal(signal.SIGHUP)
    launcher.signal(signal.SIGTERM)
    assert launcher.wait() == 143
    wait_until_gone(workers)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses Linux' parent death signal")
def test_workers_die_with_a_killed_launcher(programs, script):
    launcher = programs.run("-n2", script(SLEEP))
    workers = pids(launcher, 2)
    assert all(is_running(pid) for pid in workers)
    launcher.signal(signal.SIGKILL)
    wait_until_gone(workers)


def test_an_unwritable_log_is_said(programs, script, tmp_path):
    (tmp_path / "worker-0.log").mkdir()
    launcher = programs.run("-n1", "--log-dir", tmp_path, script("pass"))
    assert launcher.wait() == 1
    assert "could not start its workers" in launcher.err
    assert "worker-0.log" in launcher.err
