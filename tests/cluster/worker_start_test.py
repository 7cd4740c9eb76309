"""What a worker's process is bound to before it becomes the worker."""

import os
import signal
import subprocess
import sys

import pytest
import slowness
from programs import wait_until_gone

from tfdist.cluster import worker_start

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux' own calls")
DEADLINE_S = slowness.seconds(20)


def test_other_systems_start_the_worker_itself(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert worker_start.command(("train", "1"), [0]) == ["train", "1"]


@linux
def test_the_program_gets_its_arguments_and_its_cores():
    core = min(os.sched_getaffinity(0))
    program = "import os, sys; print(os.sched_getaffinity(0), sys.argv[1:])"
    argv = [sys.executable, "-c", program, "a b", "--c"]
    for cores, expected in (([core], {core}), (None, os.sched_getaffinity(0))):
        command = worker_start.command(argv, cores)
        out = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, check=True
        )
        assert out.stdout.split("\n")[0] == f"{expected} ['a b', '--c']"


@linux
def test_cores_that_are_gone_are_no_error():
    argv = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
    command = worker_start.command(argv, [100_000])
    out = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert out.stdout.strip() == str(os.sched_getaffinity(0))


@linux
def test_the_program_is_this_process_with_its_exit_code():
    argv = [sys.executable, "-c", "import os; print(os.getpid()); os._exit(7)"]
    process = subprocess.Popen(worker_start.command(argv, None), stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert (int(out), process.returncode) == (process.pid, 7)


@linux
def test_it_dies_with_its_launcher():
    launcher = (
        "import subprocess, sys, time\n"
        "from tfdist.cluster import worker_start\n"
        "argv = [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); "
        "time.sleep(600)']\n"
        "subprocess.Popen(worker_start.command(argv, None)); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    worker = None
    try:
        worker = int(process.stdout.readline())
        process.kill()
        process.wait(DEADLINE_S)
        wait_until_gone([worker])
    finally:
        process.kill()
        process.stdout.close()
        if worker is not None and os.path.exists(f"/proc/{worker}"):
            os.kill(worker, signal.SIGKILL)


@linux
def test_a_launcher_that_is_dead_already():
    command = worker_start.command([sys.executable, "-c", "print('started')"], None)
    place = command.index(str(os.getpid()))
    command[place] = "1"  # not the parent of what starts now
    out = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (out.returncode, out.stdout) == (128 + signal.SIGKILL, "")
