import io
import os
import queue
import signal
import sys
import time

import pytest
import slowness
from programs import is_running, state_of, wait_until_gone

from tfdist.cluster.gang import Exit, Gang, WorkerCommand, culprit, shell_code
from tfdist.cluster.output import Screen


class Watched:
    """A gang of small programs, its output and the exits it posted."""

    def __init__(self, log_dir=None):
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        self._exits = queue.SimpleQueue()
        self.gang = Gang(Screen(self.stdout, self.stderr), self._exits.put, log_dir)

    def start(self, *programs):
        self.gang.start(
            [
                WorkerCommand(rank, [sys.executable, "-c", program], dict(os.environ))
                for rank, program in enumerate(programs)
            ]
        )

    def exits(self, count):
        return [self._exits.get(timeout=slowness.seconds(20)) for _ in range(count)]

    def wait_for(self, text, count=1):
        deadline = time.monotonic() + slowness.seconds(20)
        while self.stdout.getvalue().count(text) < count:
            assert time.monotonic() < deadline, self.stdout.getvalue() + self.stderr.getvalue()
            time.sleep(0.01)


@pytest.fixture
def watched():
    one = Watched()
    yield one
    one.gang.end(grace=0)


SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP


def test_exits_are_posted_with_their_codes(watched):
    watched.start("pass", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 11)")
    assert {one.rank: one.code for one in watched.exits(3)} == {0: 0, 1: 3, 2: -11}
    assert watched.gang.running() == []


def test_output_is_prefixed_and_kept(watched):
    watched.start("print('a'); print('b')", "import sys; print('c'); print('d', file=sys.stderr)")
    watched.exits(2)
    watched.gang.end()
    assert sorted(watched.stdout.getvalue().splitlines()) == [
        "[worker 0] a",
        "[worker 0] b",
        "[worker 1] c",
    ]
    assert watched.stderr.getvalue() == "[worker 1] d\n"
    assert watched.gang.tail(0) == ["a", "b"]  # nothing on stderr
    assert watched.gang.tail(1) == ["d"]
    assert watched.gang.tail(7) == []


def test_much_output_on_both_streams_does_not_block(watched):
    flood = "import sys\nfor _ in range(3000): print('o' * 999); print('e' * 999, file=sys.stderr)"
    watched.start(flood, flood)
    assert [one.code for one in watched.exits(2)] == [0, 0]
    watched.gang.end()
    assert watched.stdout.getvalue().count("\n") == watched.stderr.getvalue().count("\n") == 6000


def test_log_files_have_the_whole_output(tmp_path):
    one = Watched(log_dir=tmp_path / "logs")
    one.start("print('a', flush=True); 1/0", r"print('1\r2\r3')")
    one.exits(2)
    one.gang.end()
    first = (tmp_path / "logs" / "worker-0.log").read_text()
    assert "a\n" in first
    assert "ZeroDivisionError" in first
    assert (tmp_path / "logs" / "worker-1.log").read_bytes() == b"1\r2\r3\n"


def test_a_worker_starts_again_in_its_own_place_and_log(tmp_path):
    watched = Watched(tmp_path)
    program = "import os, time; print('here', os.getpid(), flush=True); time.sleep(600)"
    commands = [
        WorkerCommand(rank, [sys.executable, "-c", program], dict(os.environ), name=name)
        for rank, name in enumerate(("chief", "worker 0"))
    ]
    try:
        watched.gang.start(commands)
        watched.wait_for("here", 2)
        (first,) = (
            int(line.split()[-1])
            for line in watched.stdout.getvalue().splitlines()
            if line.startswith("[worker 0] here")
        )
        os.kill(first, signal.SIGKILL)
        assert [(one.rank, one.code) for one in watched.exits(1)] == [(1, -9)]
        watched.gang.restart(commands[1])
        watched.wait_for("[worker 0] here", 2)
        assert watched.gang.running() == [0, 1]
    finally:
        watched.gang.end(grace=0)
    assert (tmp_path / "worker-0.log").read_text().count("here") == 2
    assert (tmp_path / "chief.log").read_text().count("here") == 1


def test_end_asks_and_then_kills(watched):
    asked = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); " + SLEEP
    watched.start(asked, STUBBORN)
    watched.wait_for("ready", 2)
    watched.gang.end(grace=1.0)
    assert {one.rank: one.code for one in watched.exits(2)} == {0: 0, 1: -signal.SIGKILL}


def test_end_kills_the_children_of_workers(watched):
    parent = (
        "import subprocess, sys; print('child', subprocess.Popen([sys.executable, '-c', "
        f"{STUBBORN!r}]).pid, flush=True)"
    )
    # The second worker is gone before the end, its child is not.
    watched.start(parent + f"\n{SLEEP}", parent)
    watched.wait_for("child", 2)
    watched.wait_for("ready", 3)
    words = [line.split() for line in watched.stdout.getvalue().splitlines()]
    children = [int(line[3]) for line in words if "child" in line]
    assert len(children) == 2
    assert all(is_running(pid) for pid in children)
    watched.gang.end(grace=0.1)
    wait_until_gone(children)


def test_a_stopped_worker_is_ended(watched):
    watched.start("import os, signal; print(os.getpid(), flush=True); os.kill(os.getpid(), 19)")
    watched.wait_for("\n")
    pid = int(watched.stdout.getvalue().split()[-1])
    deadline = time.monotonic() + slowness.seconds(20)
    while state_of(pid) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    watched.gang.end(grace=0.2)
    assert watched.exits(1)[0].code == -signal.SIGKILL


def test_when_one_cannot_start_all_are_ended(watched):
    good = WorkerCommand(0, [sys.executable, "-c", SLEEP], dict(os.environ))
    bad = WorkerCommand(1, [sys.executable, "a\0b"], dict(os.environ))
    with pytest.raises(ValueError):
        watched.gang.start([good, bad])
    assert watched.exits(1)[0].rank == 0
    assert watched.gang.running() == []


@pytest.mark.parametrize(
    "exits, rank",
    [
        ([Exit(0, 1, 10.0), Exit(1, 1, 9.9)], 1),  # the earliest
        ([Exit(0, 1, 10.0), Exit(1, -9, 10.3)], 1),  # a signal is no consequence
        ([Exit(0, 1, 10.0), Exit(1, -9, 11.3)], 0),  # but not one that comes much later
        ([Exit(0, 1, 10.0), Exit(1, -6, 10.3)], 0),  # abort may be one
        ([Exit(0, 1, 10.0), Exit(1, -6, 10.05)], 1),
        ([Exit(0, -11, 10.0), Exit(1, -9, 10.1)], 0),
    ],
)
def test_culprit(exits, rank):
    assert culprit(exits).rank == rank
    assert culprit(exits[::-1]).rank == rank


def test_shell_code():
    assert [shell_code(code) for code in (0, 3, -9)] == [0, 3, 137]
