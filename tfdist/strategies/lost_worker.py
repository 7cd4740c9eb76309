"""What to tell the user when other workers or parameter servers are gone or do not come."""

import re

import tensorflow as tf

_GONE = (tf.errors.UnavailableError, tf.errors.AbortedError)


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
    deadline = re.search(r"aborted by: (.* did not answer within .*)", text)
    if deadline:
        return TimeoutError(deadline.group(1))
    if "Collective ops is aborted" not in text and not isinstance(error, _GONE):
        return None
    if re.search(r"Collective \S+ does not support datatype", text):  # on any worker
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
    if isinstance(error, ConnectionResetError):
        return _lost(str(error).replace(" was lost:", f" was lost during `{method}`:"))
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
