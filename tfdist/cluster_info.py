"""Which worker this process is, and a barrier for all of them.

Before a strategy is made these read `TF_CONFIG`, without loading TensorFlow.
"""

import sys

from tfdist import tf_config


def rank() -> int:
    """The index of this worker, 0 for the chief.

    Returns:
        An int in `range(world_size())`; with parameter servers, the index of this process
        in its job.
    """
    cluster = _cluster()
    return cluster.task if cluster.parameter_servers else cluster.index


def world_size() -> int:
    """How many workers train together; 1 where there is no cluster.

    Returns:
        An int of at least 1.
    """
    cluster = _cluster()
    return max(1, len(cluster.workers if cluster.parameter_servers else cluster.addresses))


def is_chief() -> bool:
    """Whether this is the worker that writes files and shows progress.

    Returns:
        A bool; True where there is no cluster.
    """
    cluster = _cluster()
    if cluster.parameter_servers:
        return cluster.job == "chief"
    return cluster.index == 0 and cluster.job in ("chief", "worker")


def barrier(name: str = "barrier", timeout: float = 600.0) -> None:
    """Waits until all workers have called `barrier` with this name.

    Example:

    ```python
    model.save("model.keras")  # the chief writes, the others do nothing
    tfdist.barrier("saved", timeout=60)
    model = keras.saving.load_model("model.keras")
    ```

    Args:
        name: str, the same on all workers.
        timeout: seconds to wait.

    Raises:
        TimeoutError: a worker did not come; the error names it.
        RuntimeError: another worker is at another barrier or in `fit`, or no
            strategy has been made yet.
    """
    if world_size() == 1 or _cluster().parameter_servers:  # one process runs the program
        return
    multi_worker = sys.modules.get("tfdist.strategies.multi_worker")
    if multi_worker is None or multi_worker.joined_cluster() is None:
        raise RuntimeError(
            f"tfdist.barrier({name!r}) needs the workers to have met: make the strategy first, "
            "`strategy = tfdist.MultiWorkerMirroredStrategy()`."
        )
    from tfdist.strategies.agreement import agree

    cluster = _cluster()
    agree(f"barrier {name!r}", {}, cluster.index, cluster.addresses, timeout)


def _cluster():
    multi_worker = sys.modules.get("tfdist.strategies.multi_worker")
    joined = multi_worker and multi_worker.joined_cluster()
    return joined or tf_config.from_environment()
