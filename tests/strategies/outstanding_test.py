import types

import pytest
import tensorflow as tf

from tfdist import tf_config
from tfdist.strategies.outstanding import Outstanding

JOBS = {"chief": ["c:1"], "worker": ["a:1", "b:1"], "ps": ["p:1", "q:1"]}
CLUSTER = tf_config.from_jobs(JOBS, "chief", 0)


def lost(task):
    return tf.errors.UnavailableError(None, None, f"remote target /job:{task}: Socket closed")


class Remote:
    """What a scheduled function returns: each `fetch` the next of these, errors raised."""

    def __init__(self, *results):
        self.results = list(results)

    def fetch(self):
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def handed_out(*remotes, done=lambda: True):
    waiting = list(remotes)
    coordinator = types.SimpleNamespace(schedule=lambda *_, **__: waiting.pop(0), done=done)
    out = Outstanding(types.SimpleNamespace(coordinator=coordinator, cluster=CLUSTER))
    numbers = [out.hand_out(None) for _ in remotes]
    return out, numbers


def test_all_steps_come_back_by_their_numbers():
    out, numbers = handed_out(Remote("one"), Remote("two"))
    assert len(out) == 2
    assert dict(out.rest()) == dict(zip(numbers, ("one", "two")))
    assert len(out) == 0 and list(out.those_done()) == []


def test_a_result_that_its_worker_took_along_is_fetched_again():
    # TensorFlow does the step again, on another worker.
    out, (number,) = handed_out(Remote(lost("worker/replica:0/task:0"), "again"))
    assert out.next() == (number, "again")


def test_a_lost_parameter_server_is_an_error_at_once():
    out, _ = handed_out(Remote(lost("ps/replica:0/task:1")))
    with pytest.raises(tf.errors.UnavailableError, match="/job:ps"):
        out.next()


def test_the_first_error_is_raised_not_a_cancelled_step():
    def done():
        raise ValueError("the first")

    out, _ = handed_out(Remote(tf.errors.CancelledError(None, None, "cancelled")), done=done)
    with pytest.raises(ValueError, match="the first"):
        out.next()


def test_workers_that_do_not_end_a_step_are_named(monkeypatch):
    monkeypatch.setenv("TFDIST_TIMEOUT", "0.2")
    out, _ = handed_out()
    with pytest.raises(TimeoutError, match=r"None of worker 0 \(a:1\), worker 1 \(b:1\) ended"):
        out.next()
