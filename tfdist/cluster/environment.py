"""What a worker finds in its environment, and the cores that it may use."""

import itertools
import json
import os


def usable_cores():
    """The numbers of the cores that this process may use, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def divide_cores(cores, workers):
    """Divides cores among workers in contiguous parts that differ by one at most.

    Example:

    >>> divide_cores([0, 1, 2, 3, 4], 2)
    [[0, 1, 2], [3, 4]]
    >>> divide_cores([0, 1], 3)  # too few: all share
    [None, None, None]

    Args:
        cores: Core numbers.
        workers: The number of workers.

    Returns:
        For each worker its cores, or None if it shares all of them.
    """
    if len(cores) < workers or workers == 1:
        return [None] * workers
    share, more = divmod(len(cores), workers)
    ends = [share * worker + min(worker, more) for worker in range(workers + 1)]
    return [cores[start:end] for start, end in itertools.pairwise(ends)]


def worker_environment(cluster, first_rank, local_rank, local_workers, restart_count=0):
    """The environment of one worker: this process' own, and its place in the gang.

    Args:
        cluster: The "host:port" of every worker, by rank.
        first_rank: The rank of this machine's first worker.
        local_rank: The worker's number among this machine's workers.
        local_workers: How many workers this machine has.
        restart_count: How many times the gang was started again.

    Returns:
        A dict for `subprocess.Popen(env=...)`.
    """
    environment = dict(os.environ)
    share = str(max(1, len(usable_cores()) // local_workers))
    environment.setdefault("OMP_NUM_THREADS", share)
    environment.setdefault("TF_NUM_INTRAOP_THREADS", share)
    # TensorFlow's servers tell how they meet, on each worker: no news for the user.
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    environment["PYTHONUNBUFFERED"] = "1"  # or the last lines of a crash are lost
    environment["TFDIST_LOCAL_RANK"] = str(local_rank)
    environment["TFDIST_LOCAL_WORLD_SIZE"] = str(local_workers)
    environment["TFDIST_RESTART_COUNT"] = str(restart_count)
    if len(cluster) > 1:
        task = {"type": "worker", "index": first_rank + local_rank}
        environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(cluster)}, "task": task})
    else:
        # One from outside would make the only worker wait for others.
        environment.pop("TF_CONFIG", None)
    return environment
