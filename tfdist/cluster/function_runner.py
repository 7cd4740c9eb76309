"""Runs a function on several workers of this machine, as from a notebook."""

import contextlib
import json
import operator
import os
import pathlib
import queue
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tfdist.cluster import function_worker
from tfdist.cluster.environment import (
    WINDOWS,
    divide_cores,
    name_of,
    usable_cores,
    worker_environment,
)
from tfdist.cluster.gang import SETTLE_S, Gang, WorkerCommand, culprit, how_it_failed
from tfdist.cluster.gpus import gpu_environments
from tfdist.cluster.inbox import take
from tfdist.cluster.output import Screen
from tfdist.cluster.ports import holds_while_listening, reserve_ports

_Result = TypeVar("_Result")


class WorkerError(RuntimeError):
    """A worker of `tfdist.run` raised an exception, or died.

    The worker's own exception is `__cause__`, if it could be sent.

    Attributes:
        rank: The worker's rank.
        traceback: The worker's own traceback, as text; if it died without one,
            its last output.
    """

    def __init__(self, rank: int, what: str, traceback: str, name: str | None = None) -> None:
        super().__init__(f"{name or f'worker {rank}'} {what}\n\n{traceback}".rstrip())
        self.rank, self.traceback = rank, traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_error, (str(self), self.rank, self.traceback)


def _restored_error(message, rank, traceback):
    error = WorkerError(rank, "", traceback)
    error.args = (message,)
    return error


def run(
    fn: Callable[..., _Result],
    workers: int = 2,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    parameter_servers: int = 0,
) -> list[_Result]:
    """Runs a function on several worker processes of this machine.

    Each worker calls `fn(*args, **kwargs)` in a fresh Python process whose
    environment tells its place (`TF_CONFIG`, `TFDIST_LOCAL_RANK`, ...), so that
    `tfdist.MultiWorkerMirroredStrategy()` inside of `fn` finds the others. What
    the workers print appears on `sys.stdout` and `sys.stderr`, each line with
    its worker's rank. If one fails, the others are ended.

    `fn` may be defined in a notebook or in the running script: it is sent by
    value, with what it refers to. Functions of other modules are sent by name.
    Import TensorFlow inside of `fn`: the workers need their own. They divide the
    GPUs of this machine, whose memory they need: a notebook that has used
    TensorFlow itself keeps it until it is restarted.

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
        parameter_servers: How many parameter servers to start beside the workers, for
            `tfdist.ParameterServerStrategy()`, behind which `fn` goes on in one process
            alone, the coordinator.

    Returns:
        The list of what the workers returned, by rank; with parameter servers, a list of
        one, what the coordinator returned.

    Raises:
        OSError: On Windows.
        TypeError: If `fn` cannot be called, or cannot be sent.
        ValueError: If there are less than one worker, or no time.
        WorkerError: If a worker raised, died, or ended without returning.
        TimeoutError: If workers had not returned in time; it names them.
    """
    if os.name == "nt":
        raise OSError(WINDOWS)
    workers = _checked(fn, workers, timeout)
    parameter_servers = _whole("parameter_servers", parameter_servers, 0)
    call = _pickled_call(fn, args, kwargs)
    deadline = None if timeout is None else time.monotonic() + timeout
    with tempfile.TemporaryDirectory(prefix="tfdist-") as directory:
        directory = pathlib.Path(directory)
        (directory / "call.pkl").write_bytes(call)
        (directory / "path.json").write_text(json.dumps([p for p in sys.path if type(p) is str]))
        return _run_gang(directory, workers, parameter_servers, deadline, timeout)


def _checked(fn, workers, timeout):
    if not callable(fn):
        raise TypeError(f"tfdist.run expects a function to run; received {fn!r}")
    workers = _whole("workers", workers, 1)
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be more than 0 seconds, or None; received {timeout!r}")
    return workers


def _whole(name, value, least):
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; received {value!r}") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}; received {value}")
    return value


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


def _run_gang(directory, workers, parameter_servers, deadline, timeout):
    # No signal handlers here: the process is its caller's. Ctrl-C arrives as a
    # KeyboardInterrupt, and if the process is killed, the kernel ends the workers.
    exits = queue.SimpleQueue()
    screen = Screen()
    gang = Gang(screen, exits.put)
    processes = workers + (1 + parameter_servers if parameter_servers else 0)
    returning = 1 if parameter_servers else workers  # the others serve
    failures, pending = [], set(range(processes))
    with contextlib.ExitStack() as stack:
        ports = stack.enter_context(reserve_ports(processes))
        try:
            gang.start(_commands(directory, workers, parameter_servers, ports, screen))
            stack.enter_context(screen.waiting(f"tfdist.run: {processes} workers are starting"))
            while min(pending, default=processes) < returning and not failures:
                try:
                    one = take(exits, deadline)
                except queue.Empty:
                    names = ", ".join(str(rank) for rank in sorted(pending) if rank < returning)
                    raise TimeoutError(
                        f"of {workers} workers these had not returned within {timeout:g} s, and "
                        f"all were ended: {names}"
                    ) from None
                pending.remove(one.rank)
                missing = not _result_file(directory, one.rank).exists()
                if one.code != 0 or (missing and one.rank < returning):
                    failures.append(one)
            if failures:
                _collect_more(exits, failures, len(pending))
        finally:
            gang.end()
    if failures:
        raise _error(directory, gang, culprit(failures), parameter_servers)
    return [_read(directory, rank)["result"] for rank in range(returning)]


def _commands(directory, workers, parameter_servers, ports, screen):
    cluster = [f"127.0.0.1:{port}" for port in ports.numbers]
    program = [sys.executable, "-P", function_worker.__file__, str(directory)]
    others = len(cluster) - workers
    parts = [None] * others + divide_cores(usable_cores(), workers)
    gpus, remark = gpu_environments(workers, others, parameter_servers)
    if remark:
        screen.say(f"tfdist.run: {remark}")
    if not holds_while_listening:
        ports.close()
    return [
        WorkerCommand(
            rank=rank,
            argv=[*program, str(rank)],
            environment=worker_environment(
                cluster, 0, rank, workers, parameter_servers=parameter_servers
            )
            | gpus[rank],
            cores=parts[rank],
            name=name_of(rank, parameter_servers),
        )
        for rank in range(len(cluster))
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


def _error(directory, gang, failure, parameter_servers):
    """The exception to raise for the worker that failed first."""
    rank = failure.rank
    name = name_of(rank, parameter_servers)
    came = _read(directory, rank) if _result_file(directory, rank).exists() else {}
    if "traceback" in came:
        error = WorkerError(rank, "raised an exception:", came["traceback"], name)
        error.__cause__ = came["error"]
        return error
    how = how_it_failed(failure.code) if failure.code else "ended"
    if "result" in came:
        what = f"returned, and then {how}; its last output:"
    else:
        what = f"{how}, before it returned; its last output:"
    return WorkerError(rank, what, "\n".join(gang.tail(rank)) or "(none)", name)


def _read(directory, rank):
    import cloudpickle

    try:
        return cloudpickle.loads(_result_file(directory, rank).read_bytes())
    except Exception as error:
        raise WorkerError(rank, f"sent something that cannot be read here: {error}", "") from error


def _result_file(directory, rank):
    return directory / f"result-{rank}.pkl"
