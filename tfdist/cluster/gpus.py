"""The GPUs of this machine, and which of its workers sees which.

TensorFlow takes nearly all memory of each GPU that a process sees, so that two workers
that see the same ones cannot both start, unless they are told to take it as needed.
"""

import os
import pathlib
import re

# Set by users and schedulers; CUDA ignores the names behind the first that is no GPU's.
VISIBLE = "CUDA_VISIBLE_DEVICES"
GROWTH = "TF_FORCE_GPU_ALLOW_GROWTH"


def usable_gpus(devices="/dev"):
    """The names of the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` takes them."""
    given = os.environ.get(VISIBLE)
    if given is None:
        found = (path.name for path in pathlib.Path(devices).glob("nvidia*"))
        count = sum(bool(re.fullmatch(r"nvidia\d+", name)) for name in found)
        return [str(place) for place in range(count)]
    names = [name.strip() for name in given.split(",")]
    return names[: next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))]


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


def gpu_environments(workers, others=0):
    """What to set in the environment of each process of this machine.

    Args:
        workers: How many workers this machine has.
        others: How many processes that do not train stand before them: the coordinator
            and the parameter servers, which would only keep memory from the workers.

    Returns:
        A list of `others + workers` dicts, all empty where there is no GPU.
    """
    gpus = usable_gpus()
    if not gpus:
        return [{}] * (others + workers)
    shared = {} if len(gpus) >= workers or GROWTH in os.environ else {GROWTH: "true"}
    parts = divide_gpus(gpus, workers)
    return [{VISIBLE: "-1"}] * others + [{VISIBLE: ",".join(part), **shared} for part in parts]


def remark(workers):
    """What the user may not expect of the division, as a sentence; or None."""
    gpus = usable_gpus()
    if 0 < len(gpus) < workers:
        return (
            f"{workers} workers share {len(gpus)} GPU{'s' * (len(gpus) > 1)}, which NCCL refuses "
            "(TensorFlow's other collectives do not); start as many workers as there are GPUs "
            "to give each its own"
        )
    if len(gpus) % workers:
        return f"{len(gpus) % workers} of {len(gpus)} GPUs stay idle: each worker has as many"
    return None
