"""What to tell the user when the other workers are gone or do not come."""

import re

import tensorflow as tf


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
    about_workers = "Collective ops is aborted" in text or isinstance(
        error, (tf.errors.UnavailableError, tf.errors.AbortedError)
    )
    if not about_workers:
        return None
    tasks = re.findall(r"/job:(chief|worker)/replica:0/task:(\d+)", text)
    first_worker = 1 if cluster.has_chief else 0
    named = {0 if job == "chief" else first_worker + int(task) for job, task in tasks}
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


def _lost(what):
    return tf.errors.UnavailableError(
        None,
        None,
        f"{what}; its own output says why. Workers cannot go on without it: "
        "start all of them again (`tfdist run --max-restarts K` does).",
    )
