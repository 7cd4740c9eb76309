"""Runs a function on several workers of this machine, as from a notebook."""

import json
import operator
import pathlib
import queue
import sys
import tempfile
import time

from tfdist.cluster import function_worker
from tfdist.cluster.environment import divide_cores, usable_cores, worker_environment
from tfdist.cluster.gang import SETTLE_S, Gang, WorkerCommand, culprit, how_it_failed
from tfdist.cluster.inbox import take
from tfdist.cluster.output import Screen
from tfdist.cluster.ports import holds_while_listening, reserve_ports


class WorkerError(RuntimeError):
    """A worker of `tfdist.run` raised an exception, or died.

    The worker's own exception is `__cause__`, if it could be sent.

    Attributes:
        rank: The worker's rank.
        traceback: The worker's own traceback, as text; if it died without one,
            its last output.
    """

    def __init__(self, rank, what, traceback):
        super().__init__(f"worker {rank} {what}\n\n{traceback}".rstrip())
        self.rank, self.traceback = rank, traceback

    def __reduce__(self):
        return _restored_error, (str(self), self.rank, self.traceback)


def _restored_error(message, rank, traceback):
    error = WorkerError(rank, "", traceback)
    error.args = (message,)
    return error


def run(fn, workers=2, args=(), kwargs=None, timeout=None):
    """Runs a function on several worker processes of this machine.

    Each worker calls `fn(*args, **kwargs)` in a fresh Python process whose
    environment tells its place (`TF_CONFIG`, `TFDIST_LOCAL_RANK`, ...), so that
    `tfdist.MultiWorkerMirroredStrategy()` inside of `fn` finds the others. What
    the workers print appears on `sys.stdout` and `sys.stderr`, each line with
    its worker's rank. If one fails, the others are ended.

    `fn` may be defined in a notebook or in the running script: it is sent by
    value, with what it refers to. Functions of other modules are sent by name.
    Import TensorFlow inside of `fn`: the workers need their own.

    Example:

    >>> import tfdist
    >>> def times(factor):
    ...     import os
    ...     return factor * int(os.environ["TFDIST_LOCAL_RANK"])
    >>> tfdist.run(times, workers=2, args=(10,))
    [0, 10]

    Args:
        fn: The function.
        workers: The number of workers.
        args, kwargs: Its arguments, the same for all workers.
        timeout: Seconds after which all workers are ended, or None.

    Returns:
        The list of what the workers returned, by rank.

    Raises:
        TypeError: If `fn` cannot be called, or cannot be sent.
        ValueError: If there are less than one worker, or no time.
        WorkerError: If a worker raised, died, or ended without returning.
        TimeoutError: If workers had not returned in time; it names them.
    """
    workers = _checked(fn, workers, timeout)
    call = _pickled_call(fn, args, kwargs)
    deadline = None if timeout is None else time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="tfdist-") as directory:
        directory = pathlib.Path(directory)
        (directory / "call.pkl").write_bytes(call)
        (directory / "path.json").write_text(json.dumps([p for p in sys.path if type(p) is str]))
        return _run_gang(directory, workers, deadline, timeout)


def _checked(fn, workers, timeout):
    if not callable(fn):
        raise TypeError(f"tfdist.run expects a function to run; received {fn!r}")
    try:
        workers = operator.index(workers)
    except TypeError:
        raise TypeError(f"workers must be a whole number; received {workers!r}") from None
    if workers < 1:
        raise ValueError(f"workers must be at least 1; received {workers}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, or None; received {timeout!r}")
    return workers


def _pickled_call(fn, args, kwargs):
    import cloudpickle

    try:
        return cloudpickle.dumps((fn, tuple(args), dict(kwargs or {})))
    except Exception as error:
        name = getattr(fn, "__qualname__", repr(fn))
        raise TypeError(
            f"{name} or its arguments cannot be sent to the workers: {error}; create what cannot "
            "be pickled (models, datasets, locks, open files) inside of the function"
        ) from error


def _run_gang(directory, workers, deadline, timeout):
    # No signal handlers here: the process is its caller's. Ctrl-C arrives as a
    # KeyboardInterrupt, and if the process is killed, the kernel ends the workers.
    exits = queue.SimpleQueue()
    gang = Gang(Screen(), exits.put)
    failures, pending = [], set(range(workers))
    with reserve_ports(workers) as ports:
        try:
            gang.start(_commands(directory, workers, ports))
            while pending and not failures:
                try:
                    one = take(exits, deadline)
                except queue.Empty:
                    names = ", ".join(map(str, sorted(pending)))
                    raise TimeoutError(
                        f"of {workers} workers these had not returned within {timeout:g} s, and "
                        f"all were ended: {names}"
                    ) from None
                pending.remove(one.rank)
                if one.code != 0 or not _result_file(directory, one.rank).exists():
                    failures.append(one)
            if failures:
                _collect_more(exits, failures, len(pending))
        finally:
            gang.end()
    if failures:
        raise _error(directory, gang, culprit(failures))
    return [_read(directory, rank)["result"] for rank in range(workers)]


def _commands(directory, workers, ports):
    cluster = [f"127.0.0.1:{port}" for port in ports.numbers]
    program = [sys.executable, "-P", function_worker.__file__, str(directory)]
    parts = divide_cores(usable_cores(), workers)
    if not holds_while_listening:
        ports.close()
    return [
        WorkerCommand(
            rank=rank,
            argv=[*program, str(rank)],
            environment=worker_environment(cluster, 0, rank, workers),
            cores=parts[rank],
        )
        for rank in range(workers)
    ]


def _collect_more(exits, failures, running):
    """Waits a moment for failures that were seen later and happened earlier."""
    deadline = time.monotonic() + SETTLE_S
    for _ in range(running):
        try:
            one = take(exits, deadline)
        except queue.Empty:
            return
        if one.code != 0:
            failures.append(one)


def _error(directory, gang, failure):
    """The exception to raise for the worker that failed first."""
    rank = failure.rank
    came = _read(directory, rank) if _result_file(directory, rank).exists() else {}
    if "traceback" in came:
        error = WorkerError(rank, "raised an exception:", came["traceback"])
        error.__cause__ = came["error"]
        return error
    how = how_it_failed(failure.code) if failure.code else "ended"
    if "result" in came:
        what = f"returned, and then {how}; its last output:"
    else:
        what = f"{how}, before it returned; its last output:"
    return WorkerError(rank, what, "\n".join(gang.tail(rank)) or "(none)")


def _read(directory, rank):
    import cloudpickle

    try:
        return cloudpickle.loads(_result_file(directory, rank).read_bytes())
    except Exception as error:
        raise WorkerError(rank, f"sent something that cannot be read here: {error}", "") from error


def _result_file(directory, rank):
    return directory / f"result-{rank}.pkl"
