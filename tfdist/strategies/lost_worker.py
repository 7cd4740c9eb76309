"""What to tell the user when other workers or parameter servers are gone or do not come.

TensorFlow tells its errors apart by their texts alone; those that tfdist must know stand
here. Errors of tfdist's own have types.
"""

import re

import tensorflow as tf

from tfdist.sync.connections import WorkersLost

_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError)
# What TensorFlow puts in front of what a collective was aborted with, on any worker.
_ABORTED_BY = re.compile(r"Collective ops is aborted by: (.*)")
_NO_SUCH_COLLECTIVE = re.compile(r"Collective \S+ does not support datatype")


def explain(error, method, cluster):
    """Turns TensorFlow's error for a broken collective into one that names the worker.

    Args:
        error: the `tf.errors.OpError` that a step ended with.
        method: the Keras method that was running.
        cluster: the `tf_config.Cluster`.

    Returns:
        The exception to raise instead, or None where the error is not about
        other workers.
    """
    text = str(error)
    aborted = _ABORTED_BY.search(text)
    if aborted and isinstance(error, tf.errors.DeadlineExceededError):
        return TimeoutError(aborted.group(1))  # by a watchdog, of another worker perhaps
    if not aborted and not isinstance(error, _GONE):
        return None
    if _NO_SUCH_COLLECTIVE.search(text):
        return None
    first_worker = 1 if cluster.has_chief else 0
    named = {first_worker + task for task in _tasks("worker", text)} | _tasks("chief", text)
    lost = sorted(i for i in named if i != cluster.index and i < len(cluster.addresses))
    names = ", ".join(f"worker {i} ({cluster.addresses[i]})" for i in lost)
    why = "its process ended, or its machine cannot be reached"
    return _lost(f"{names or 'another worker'} was lost during `{method}`: {why}")


def explain_ring(error, method):
    """The exception to raise where a `tfdist.sync.ring.Ring` broke.

    Args:
        error: what broke it.
        method: the Keras method that was running.
    """
    if isinstance(error, TimeoutError):
        return TimeoutError(str(error))
    if isinstance(error, WorkersLost):
        return _lost(error.text(during=f"`{method}`"))
    return RuntimeError(f"`{method}`: {error}")


def explain_server(error, method, cluster):
    """Turns TensorFlow's error for a lost parameter server into one that names it.

    Args:
        error: the `tf.errors.OpError` that a step ended with.
        method: the Keras method that was running.
        cluster: the `tf_config.Cluster`.

    Returns:
        The exception to raise instead, or None where the error is not about that.
    """
    servers = sorted(_tasks("ps", str(error)))
    if not servers or not isinstance(error, _GONE):
        return None
    names = ", ".join(f"parameter server {i} ({cluster.parameter_servers[i]})" for i in servers)
    return tf.errors.UnavailableError(
        None,
        None,
        f"{names} was lost during `{method}`, and the weights that it held: its process ended, or "
        "its machine cannot be reached; its own output says why. Start all again "
        "(`tfdist run --max-restarts K` does); `tfdist.callbacks.Checkpoint` goes on where the "
        "last checkpoint was written.",
    )


def may_come_back(error):
    """Whether an asynchronous step ended because a worker was lost, not a parameter server."""
    lost = (*_GONE, tf.errors.CancelledError)
    text = str(error)
    return isinstance(error, lost) and "/job:worker" in text and "/job:ps" not in text


def _tasks(job, text):
    """The numbers of the tasks of `job` that an error of TensorFlow's names."""
    return {int(task) for task in re.findall(rf"/job:{job}/replica:0/task:(\d+)", text)}


def _lost(what):
    return tf.errors.UnavailableError(
        None,
        None,
        f"{what}; its own output says why. Workers cannot go on without it: "
        "start all of them again (`tfdist run --max-restarts K` does).",
    )
