"""Reads and checks `TF_CONFIG`, the environment variable that describes a cluster.

Imports no TensorFlow: `tfdist.rank()` works before it is loaded.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_TRAINING_JOBS = ("chief", "worker")
_JOBS = (*_TRAINING_JOBS, "ps", "evaluator", "master")
_EXAMPLE = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclass(frozen=True)
class Cluster:
    """The workers of a training job, and which of them this process is.

    Attributes:
        addresses: `host:port` of each training worker, the chief first.
        index: this process' index among them.
        job: the job of this process, `"worker"`, `"chief"`, `"ps"`, ...
        parameter_servers: `host:port` of each parameter server.
        has_chief: whether the first address is a `"chief"`, not a `"worker"`.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0
    job: str = "worker"
    parameter_servers: tuple[str, ...] = ()
    has_chief: bool = False

    @property
    def workers(self) -> tuple[str, ...]:
        """`host:port` of each task of the job "worker"."""
        return self.addresses[1:] if self.has_chief else self.addresses

    @property
    def coordinator(self) -> str | None:
        """`host:port` of the chief, or None where there is none."""
        return self.addresses[0] if self.has_chief else None

    @property
    def task(self) -> int:
        """This process' index in its job."""
        return self.index - (self.job == "worker" and self.has_chief)


def from_jobs(jobs: Mapping[str, Sequence[str]], job: str | None, task: int | None) -> Cluster:
    """The `Cluster` of a cluster specification.

    Args:
        jobs: dict of lists of `host:port`, by job.
        job: this process' job, or None for "worker".
        task: its index in it, or None for 0.
    """
    addresses = tuple(address for name in _TRAINING_JOBS for address in jobs.get(name, ()))
    index = (task or 0) + (len(jobs.get("chief", ())) if job == "worker" else 0)
    return Cluster(
        addresses, index, job or "worker", tuple(jobs.get("ps", ())), bool(jobs.get("chief"))
    )


def from_environment(environ: Mapping[str, str] | None = None) -> Cluster:
    """Returns the `Cluster` of `TF_CONFIG`; an empty one where it is not set.

    Raises:
        ValueError: `TF_CONFIG` is malformed or contradicts itself.

    Example:

    >>> config = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    >>> cluster = from_environment({"TF_CONFIG": config})
    >>> cluster.addresses, cluster.index, cluster.job
    (('a:1', 'b:1'), 1, 'worker')
    """
    text = (os.environ if environ is None else environ).get("TF_CONFIG", "").strip()
    if not text:
        return Cluster()
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise _error(text, f"it is not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise _error(text, "it is not a JSON object")
    jobs = config.get("cluster") or {}
    if not jobs:
        return Cluster()
    task = config.get("task")
    if not isinstance(task, dict) or "type" not in task or "index" not in task:
        raise _error(text, 'it has a "cluster" but no "task" with a "type" and an "index"')
    _check_cluster(text, jobs)
    job, index = task["type"], task["index"]
    if isinstance(index, str) and index.isdigit():
        index = int(index)
    if job not in jobs and job != "evaluator":
        raise _error(text, f'this task\'s type {job!r} is not in the "cluster" ({sorted(jobs)})')
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise _error(text, f"this task's index must be a non-negative integer, not {index!r}")
    if job in jobs and index >= len(jobs[job]):
        raise _error(
            text, f'this task\'s index is {index}, but the "cluster" has {len(jobs[job])} {job!r}'
        )
    return from_jobs(jobs, job, index)


def _check_cluster(text, jobs):
    if not isinstance(jobs, dict):
        raise _error(text, '"cluster" must be an object, a list of addresses for each job')
    seen = {}
    for job, addresses in jobs.items():
        if job not in _JOBS:
            raise _error(text, f'unknown job {job!r} in "cluster"; expected some of {_JOBS}')
        if not isinstance(addresses, list) or not addresses:
            raise _error(text, f'"cluster" must give {job!r} a list of addresses')
        for position, address in enumerate(addresses):
            host, _, port = str(address).rpartition(":")
            if not isinstance(address, str) or not host or not port.isdigit() or int(port) > 65535:
                raise _error(text, f"{job} {position} has the address {address!r}, not host:port")
            if address in seen:
                raise _error(text, f"{job} {position} and {seen[address]} share {address!r}")
            seen[address] = f"{job} {position}"
    if len(jobs.get("chief", ())) > 1:
        raise _error(text, f"there can be one chief, not {len(jobs['chief'])}")


def _error(text, problem):
    return ValueError(
        f"TF_CONFIG cannot be used: {problem}.\nReceived: {text}\nExpected something like: "
        f"{_EXAMPLE}\n`tfdist run` sets it for you; unset it to train on one machine."
    )
