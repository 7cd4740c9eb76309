"""The workers of one machine: processes that start together and end together."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import subprocess
import threading
import time

from tfdist.cluster import worker_start
from tfdist.cluster.output import OutputReader

GRACE_S = 5.0  # between asking a worker to end and killing it
SETTLE_S = 1.0  # after the first failure: wait for the others, then choose whom to blame


@dataclasses.dataclass(frozen=True)
class WorkerCommand:
    """How to start a worker: its rank, command line, environment, cores and name."""

    rank: int
    argv: list
    environment: dict
    cores: list | None = None
    name: str | None = None  # by default "worker <rank>"


@dataclasses.dataclass(frozen=True)
class Exit:
    """A worker that has ended.

    Attributes:
        rank: Its rank.
        code: Its exit code; negative if a signal killed it, as in `subprocess`.
        time: When, on `time.monotonic`'s clock.
    """

    rank: int
    code: int
    time: float


def how_it_failed(code):
    """Says how a worker failed.

    Example:

    >>> how_it_failed(3)
    'failed with exit code 3'
    >>> how_it_failed(-11)
    'was killed by signal 11 (SIGSEGV)'
    """
    if code >= 0:
        return f"failed with exit code {code}"
    try:
        name = f" ({signal.Signals(-code).name})"
    except ValueError:
        name = ""
    hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code}{name}{hint}"


def shell_code(code):
    """The exit code as a shell reports it: 128 + the signal if one killed it."""
    return 128 - code if code < 0 else code


def culprit(exits):
    """The failure that most likely caused the others.

    The earliest, since the peers of a crashed worker fail in their next
    collective. A worker that a signal killed gets a head start: the kernel
    closes its connections before it reports its end, so a quick peer may be
    seen first. SIGABRT gets a small one only: it is also how a library gives
    up when a peer is gone.

    Args:
        exits: Failures, each with `code` and `time`.

    Returns:
        One of them.
    """

    def blame(one):
        if one.code >= 0:
            return one.time
        return one.time - (0.1 if -one.code == signal.SIGABRT else SETTLE_S)

    return min(exits, key=blame)


class Gang:
    """Starts workers, watches them and ends them.

    Each worker has a session and a process group of its own, so that a signal
    from the terminal reaches the launcher alone, and its children can be ended
    with it. Start a gang from a thread that outlives it: on Linux a worker is
    killed when the thread that started it ends.

    Args:
        screen: An `output.Screen` for what the workers print.
        post: Called with the `Exit` of each worker, from another thread.
        log_dir: Where each worker's output goes to `worker-<rank>.log`, or None.
        append_logs: Whether to add to the log files that are there.
    """

    def __init__(self, screen, post, log_dir=None, append_logs=False):
        self._screen, self._post = screen, post
        self._log_dir = pathlib.Path(log_dir) if log_dir else None
        self._log_mode = "ab" if append_logs else "wb"
        self._workers = []

    def start(self, commands):
        """Starts a worker for each `WorkerCommand`; if one cannot start, ends all."""
        try:
            for command in commands:
                self._workers.append(_Worker(command, self._screen, self._post, self._log(command)))
        except BaseException:
            self.end(grace=0)
            raise

    def restart(self, command):
        """Starts a worker again that has ended; its log goes on."""
        (place,) = (i for i, worker in enumerate(self._workers) if worker.rank == command.rank)
        self._workers[place].signal_group(signal.SIGKILL)  # what it has left behind
        self._workers[place].close()
        self._log_mode = "ab"
        self._workers[place] = _Worker(command, self._screen, self._post, self._log(command))

    def running(self):
        """The ranks of the workers that have not ended."""
        return [worker.rank for worker in self._workers if worker.exit is None]

    def tail(self, rank):
        """The last lines that a worker wrote to stderr, or if none, to stdout."""
        for worker in self._workers:
            if worker.rank == rank:
                return list(worker.stderr.tail) or list(worker.stdout.tail)
        return []

    def end(self, grace=GRACE_S):
        """Ends all workers and their children: SIGTERM, `grace` seconds, SIGKILL."""
        if grace > 0:
            for worker in self._workers:
                worker.signal_group(signal.SIGTERM)
            deadline = time.monotonic() + grace
            for worker in self._workers:
                worker.join(deadline - time.monotonic())
        self.kill()
        for worker in self._workers:
            worker.close()

    def kill(self):
        """Kills all workers and their children at once. May be called by a signal handler."""
        for worker in self._workers:
            worker.signal_group(signal.SIGKILL)

    def _log(self, command):
        if self._log_dir is None:
            return None
        self._log_dir.mkdir(parents=True, exist_ok=True)
        name = command.name or f"worker {command.rank}"
        path = self._log_dir / f"{name.replace(' ', '-')}.log"
        return open(path, self._log_mode, buffering=0)


class _Worker:
    """A process, the thread that waits for it, and the readers of its output."""

    def __init__(self, command, screen, post, log):
        self.rank, self.exit = command.rank, None
        self._log, self._post, self._reaped = log, post, False
        try:
            self._process = subprocess.Popen(
                worker_start.command(command.argv, command.cores),
                env=command.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except BaseException:
            if log is not None:
                log.close()
            raise
        prefix = f"[{command.name or f'worker {self.rank}'}] "
        self.stdout = OutputReader(self._process.stdout, screen, "stdout", prefix, log)
        self.stderr = OutputReader(self._process.stderr, screen, "stderr", prefix, log)
        self._waiter = threading.Thread(target=self._wait, name="tfdist-wait", daemon=True)
        self._waiter.start()

    def _wait(self):
        # A thread that blocks, since the order of two ends matters and polling
        # would not see it. WNOWAIT leaves the process a zombie: its number, and
        # so its group's, cannot be given to a stranger before `close`.
        if hasattr(os, "waitid"):
            end = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            ended_at = time.monotonic()
            code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        else:
            code = self._process.wait()
            ended_at = time.monotonic()
        self.exit = Exit(self.rank, code, ended_at)
        self._post(self.exit)

    def signal_group(self, number):
        if self._reaped:
            return
        # PermissionError: how some systems report a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def join(self, timeout):
        self._waiter.join(max(0.0, timeout))

    def close(self):
        self.join(5.0)  # after SIGKILL: only a process stuck in the kernel is still there
        for reader in (self.stdout, self.stderr):
            reader.join(1.0)
        if self.exit is not None:
            self._reaped = True
            self._process.wait()
        if self._log is not None:
            self._log.close()
