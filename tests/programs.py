"""Programs that a test starts, talks to and kills, whatever happens."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading

import slowness

RUN = [sys.executable, "-m", "tfdist.cli", "run"]
# These and all others that are given here are longer on a slow machine.
DEADLINE_S = 30.0
# Four processes that import TensorFlow beside other tests may take half a minute to begin.
NEWS_DEADLINE_S = 120.0


class Program:
    """A process whose output is collected while it runs.

    Args:
        argv: Its command line.
        start: What to start it with, instead of `subprocess.Popen`.
        options: For `subprocess.Popen`.
    """

    def __init__(self, argv, start=subprocess.Popen, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = start([str(one) for one in argv], **pipes, **options)
        self._lines = {"out": [], "err": []}
        self._ended = set()
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in ((self.process.stdout, "out"), (self.process.stderr, "err"))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def out(self):
        with self._news:
            return "".join(self._lines["out"])

    @property
    def err(self):
        with self._news:
            return "".join(self._lines["err"])

    def wait_for(self, text, times=1):
        """Waits until `text` was printed on stdout `times` times; returns stdout.

        Fails at the deadline, or at once where the program's output has ended without it.
        """

        def printed():
            return "".join(self._lines["out"]).count(text) >= times

        with self._news:
            self._news.wait_for(
                lambda: printed() or self._ended == {"out", "err"},
                slowness.seconds(NEWS_DEADLINE_S),
            )
            assert printed(), f"no {text!r} in {self._lines}"
        return self.out

    def wait(self, seconds=DEADLINE_S):
        """Waits for its end, and for the end of its output; returns its exit code."""
        code = self.process.wait(slowness.seconds(seconds))
        for reader in self._readers:
            reader.join(slowness.seconds(DEADLINE_S))
        return code

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.wait()

    def _read(self, pipe, name):
        with pipe:
            for line in pipe:
                with self._news:
                    self._lines[name].append(line)
                    self._news.notify_all()
        with self._news:
            self._ended.add(name)
            self._news.notify_all()


class Programs:
    """Starts programs and kills all of them at the end of a `with`."""

    def __init__(self):
        self._all = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self._all:
            one.close()

    def start(self, argv, **options):
        # Started in the background, the tests ignore SIGINT, and so would it.
        options.setdefault("preexec_fn", _default_signals)
        self._all.append(Program(argv, **options))
        return self._all[-1]

    def run(self, *arguments, **options):
        """Starts `tfdist run` with these arguments."""
        return self.start([*RUN, *arguments], **options)


def _default_signals():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def state_of(pid):
    """A process' state as a letter ("R", "S", "T", "Z", ...), or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_running(pid):
    """Whether a process exists and is not a zombie."""
    return state_of(pid) not in (None, "Z")


def wait_until_gone(pids):
    """Waits until none of these processes is running."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            # A descriptor of the process becomes readable when it ends.
            descriptor = os.pidfd_open(pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                gone = poll.poll(slowness.seconds(10_000)) or not is_running(pid)
                assert gone, f"{pid} is still running"
            finally:
                os.close(descriptor)
