import tensorflow as tf
from tensorflow.python.eager import context
from upstream import require, require_parameters

from tfdist.compat import coordination


def test_upstream():
    require(context, "context", "global_seed")
    require(
        context.context(),
        "_context_handle",
        "_collective_ops_server_def",
        "set_config_key_value",
        "get_config_key_value",
        "wait_at_barrier",
        "abort_collective_ops",
        "get_task_states",
    )
    require_parameters(context.Context.set_config_key_value, "self", "key", "value")
    require_parameters(context.Context.get_config_key_value, "self", "key", "timeout_in_ms")
    require_parameters(context.Context.wait_at_barrier, "self", "barrier_id", "timeout_in_ms")
    require_parameters(context.Context.get_task_states, "self", "job_configs")
    require_parameters(context.Context.abort_collective_ops, "self", "code", "message")


def test_the_seed():
    assert coordination.global_seed() is None
    tf.random.set_seed(31)
    assert coordination.global_seed() == 31
    first = coordination.seeding()
    assert coordination.seeding() is first
    tf.random.set_seed(31)
    assert coordination.seeding() is not first


def test_what_has_started():
    assert float(tf.constant(1.0)) == 1.0
    assert coordination.eager_context_started()


class Context:
    """A stand-in for TensorFlow's context: which calls it got."""

    def __init__(self):
        self.calls = []

    def get_config_key_value(self, key, timeout):
        self.calls.append((key, timeout))
        if key == "absent":
            raise tf.errors.DeadlineExceededError(None, None, "timed out")
        return f"value of {key}"

    def wait_at_barrier(self, *args):
        self.calls.append(args)

    def get_task_states(self, jobs):
        self.calls.append(jobs)
        return [None, tf.errors.UnavailableError(None, None, ""), None]

    set_config_key_value = abort_collective_ops = wait_at_barrier


def test_calls_go_to_the_service_in_its_units(monkeypatch):
    fake = Context()
    monkeypatch.setattr(context, "context", lambda: fake)
    coordination.put("k", "v")
    assert coordination.get("k", 1.5) == "value of k"
    assert coordination.get("absent", 0.0001) is None
    coordination.wait_at_barrier("here", 2)
    coordination.abort_collectives("enough")
    assert coordination.lost_tasks("worker", 3) == [1]
    assert fake.calls == [
        ("k", "v"),
        ("k", 1500),
        ("absent", 1),  # 0 would be no deadline
        ("here", 2000),
        (tf.errors.DEADLINE_EXCEEDED, "enough"),
        [("worker", 3)],
    ]
