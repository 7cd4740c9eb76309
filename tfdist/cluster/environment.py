"""What a worker finds in its environment, and the cores that it may use."""

import itertools
import json
import os

# Why nothing is started on Windows.
WINDOWS = "Windows has no process groups, by which workers are ended together; use WSL 2"


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


def name_of(rank, parameter_servers):
    """What a process of a run is called.

    With parameter servers the first process is the coordinator, TensorFlow's "chief", the
    next ones are the servers, and the workers come last.

    Example:

    >>> [name_of(rank, 0) for rank in range(2)]
    ['worker 0', 'worker 1']
    >>> [name_of(rank, 1) for rank in range(4)]
    ['chief', 'ps 0', 'worker 0', 'worker 1']

    Args:
        rank: Its number in the run.
        parameter_servers: How many there are.
    """
    if not parameter_servers:
        return f"worker {rank}"
    if rank == 0:
        return "chief"
    if rank <= parameter_servers:
        return f"ps {rank - 1}"
    return f"worker {rank - 1 - parameter_servers}"


def tf_config(cluster, rank, parameter_servers):
    """The value of `TF_CONFIG` for one process, as a dict.

    Args:
        cluster: The "host:port" of every process, by rank.
        rank: Its own rank.
        parameter_servers: How many there are.
    """
    if not parameter_servers:
        return {"cluster": {"worker": list(cluster)}, "task": {"type": "worker", "index": rank}}
    jobs = {
        "chief": list(cluster[:1]),
        "ps": list(cluster[1 : 1 + parameter_servers]),
        "worker": list(cluster[1 + parameter_servers :]),
    }
    job, _, index = name_of(rank, parameter_servers).partition(" ")
    return {"cluster": jobs, "task": {"type": job, "index": int(index or 0)}}


def worker_environment(
    cluster, first_rank, local_rank, local_workers, restart_count=0, parameter_servers=0
):
    """The environment of one worker: this process' own, and its place in the gang.

    Args:
        cluster: The "host:port" of every worker, by rank.
        first_rank: The rank of this machine's first worker.
        local_rank: The worker's number among this machine's workers.
        local_workers: How many workers this machine has.
        restart_count: How many times the gang was started again.
        parameter_servers: How many of the first processes, behind the chief, are those.

    Returns:
        A dict for `subprocess.Popen(env=...)`.
    """
    environment = dict(os.environ)
    share = str(max(1, len(usable_cores()) // local_workers))
    environment.setdefault("OMP_NUM_THREADS", share)
    environment.setdefault("TF_NUM_INTRAOP_THREADS", share)
    # TensorFlow's servers tell how they meet, on each worker, which says nothing to the user; and
    # those of asynchronous training warn of each function that they forget.
    quiet = "2" if parameter_servers else "1"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", quiet)
    environment["PYTHONUNBUFFERED"] = "1"  # or the last lines of a crash are lost
    environment["TFDIST_LOCAL_RANK"] = str(local_rank)
    environment["TFDIST_LOCAL_WORLD_SIZE"] = str(local_workers)
    environment["TFDIST_RESTART_COUNT"] = str(restart_count)
    if len(cluster) > 1:
        place = tf_config(cluster, first_rank + local_rank, parameter_servers)
        environment["TF_CONFIG"] = json.dumps(place)
    else:
        # One from outside would make the only worker wait for others.
        environment.pop("TF_CONFIG", None)
    return environment
