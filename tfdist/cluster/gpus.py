"""The GPUs of this machine, and which of its workers sees which.

TensorFlow takes nearly all memory of each GPU that a process sees, so that two workers
that see the same ones cannot both start, unless they are told to take it as needed.
"""

import functools
import itertools
import os
import pathlib
import re
import subprocess

# Set by users and schedulers; CUDA ignores the names behind the first that is no GPU's.
VISIBLE = "CUDA_VISIBLE_DEVICES"
GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"
_NAME = re.compile(r"\d+|(GPU|MIG)-\S+")
_ANSWER_S = 20  # for `nvidia-smi`; a machine of many GPUs takes seconds


def usable_gpus(devices="/dev"):
    """The names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` takes them.

    Asks the variable itself, else `nvidia-smi`, else counts NVIDIA's device files.
    """
    given = os.environ.get(VISIBLE)
    if given is not None:
        return list(itertools.takewhile(_NAME.fullmatch, re.split(r"\s*,\s*", given.strip())))
    count = _listed()
    if count is None:
        files = (path.name for path in pathlib.Path(devices).glob("nvidia*"))
        count = sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in files)
    return [str(place) for place in range(count)]


@functools.cache
def _listed():
    """How many GPUs `nvidia-smi` lists; None where it does not answer."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return len(re.findall(r"^GPU \d+:", done.stdout, re.MULTILINE))


def divide_gpus(gpus, workers):
    """Divides GPUs among workers, in contiguous parts of one size.

    Workers that sum together must have as many replicas each, so what is left over is left
    idle. Where there are fewer GPUs than workers, each has one, which several share.

    Example:

    >>> divide_gpus(["0", "1", "2", "3", "4"], 2)
    [['0', '1'], ['2', '3']]
    >>> divide_gpus(["0", "1"], 3)
    [['0'], ['1'], ['0']]
    >>> divide_gpus([], 2)
    [[], []]

    Args:
        gpus: Names of GPUs.
        workers: The number of workers.

    Returns:
        For each worker the names of its own.
    """
    share = len(gpus) // workers
    if gpus and not share:
        return [[gpus[worker % len(gpus)]] for worker in range(workers)]
    return [gpus[share * worker : share * (worker + 1)] for worker in range(workers)]


def gpu_environments(workers, others=0, parameter_servers=0):
    """What to set in the environment of each process of this machine.

    Args:
        workers: How many workers this machine has.
        others: How many processes that do not train stand before them: the coordinator
            and the parameter servers, which would only keep memory from the workers.
        parameter_servers: How many the run has; a worker of theirs has one replica.

    Returns:
        A tuple of a list of `others + workers` dicts, all empty where there is no GPU, and
        of what the user may not expect of the division, a sentence or None.
    """
    gpus = usable_gpus()
    if not gpus:
        return [{}] * (others + workers), None
    parts = [part[:1] if parameter_servers else part for part in divide_gpus(gpus, workers)]
    shared = {} if len(gpus) >= workers or GROWTH in os.environ else {GROWTH: "true"}
    environments = [{VISIBLE: ",".join(part), **shared} for part in parts]
    return [{VISIBLE: "-1"}] * others + environments, _remark(gpus, parts)


def _remark(gpus, parts):
    if len(gpus) < len(parts):
        return (
            f"{len(parts)} workers share {len(gpus)} GPU{'s' * (len(gpus) > 1)}, which NCCL "
            "refuses (TensorFlow's other collectives do not); start as many workers as there "
            "are GPUs to give each its own"
        )
    idle = len(gpus) - sum(map(len, parts))
    if idle:
        return f"{idle} of {len(gpus)} GPUs stay idle: each worker has {len(parts[0])}"
    return None
