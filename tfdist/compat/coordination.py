"""The key-value store and the barriers of TensorFlow's coordination service.

Needs: `set_config_key_value`, `get_config_key_value`, `wait_at_barrier`,
`abort_collective_ops`, `get_task_states`, `_rng` and `_context_handle` of TensorFlow's
eager context.
Why: they are what a multi-worker job has for talking beside the training data,
with deadlines; none of them is public.
"""

import tensorflow as tf
from tensorflow.python.eager import context

_chosen = None  # what `seeding` was at the last `choose_seed`


def eager_context_started():
    """Whether TensorFlow has run anything yet, after which no server can be set up."""
    return context.context()._context_handle is not None


def global_seed():
    """The seed of `tf.random.set_seed`, or None."""
    return context.global_seed()


def seeding():
    """An object that is another one after each `tf.random.set_seed`."""
    return context.context()._rng


def choose_seed(seed):
    """Sets TensorFlow's seed where the user has set none."""
    global _chosen
    tf.random.set_seed(seed)
    _chosen = seeding()


def seed_was_chosen():
    """Whether the seed in force is one of `choose_seed`."""
    return _chosen is not None and _chosen is seeding()


def put(key, value):
    """Publishes `value` (str) under `key`, once."""
    context.context().set_config_key_value(key, value)


def get(key, timeout):
    """Waits until `key` is published; None if that takes more than `timeout` seconds."""
    try:
        return context.context().get_config_key_value(key, max(1, int(timeout * 1000)))
    except tf.errors.DeadlineExceededError:
        return None


def wait_at_barrier(name, timeout):
    """Waits until all workers are at the barrier `name`, a name used once.

    Raises:
        tf.errors.DeadlineExceededError: not all came within `timeout` seconds.
    """
    context.context().wait_at_barrier(name, max(1, int(timeout * 1000)))


def abort_collectives(message):
    """Ends the collectives that this worker waits in with an error that says `message`."""
    context.context().abort_collective_ops(tf.errors.DEADLINE_EXCEEDED, message)


def lost_tasks(job, count):
    """Those of the first `count` tasks of `job` that the service has given up.

    A task that ended, or does not answer the service's heartbeat. Asks the service,
    which has no deadline for it: where its own task is stopped, this does not return.

    Returns:
        A list of task indices.
    """
    states = context.context().get_task_states([(job, count)])
    return [task for task, state in enumerate(states) if state is not None]
