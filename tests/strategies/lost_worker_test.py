"""Errors of broken collectives name the worker that is gone."""

import pytest
import tensorflow as tf

from tfdist.strategies.lost_worker import (
    explain,
    explain_ring,
    explain_server,
    may_come_back,
)
from tfdist.sync.connections import WorkersLost
from tfdist.tf_config import Cluster, from_jobs

WORKERS = Cluster(("a:1", "b:2", "c:3"), index=0)
WITH_CHIEF = Cluster(("a:1", "b:2", "c:3"), index=0, job="chief", has_chief=True)
WITH_SERVERS = from_jobs(
    {"chief": ["c:1"], "worker": ["a:1", "b:1"], "ps": ["p:1", "q:1"]}, "chief", 0
)


def _broken(task):
    return tf.errors.UnavailableError(
        None,
        None,
        "Collective ops is aborted by: Socket closed\nAdditional GRPC error information from "
        f"remote target {task} while calling /tensorflow.WorkerService/RecvBuf",
    )


@pytest.mark.parametrize(
    ("cluster", "task", "named"),
    [
        (WORKERS, "/job:worker/replica:0/task:1", "worker 1 (b:2) was lost during `fit`"),
        (WITH_CHIEF, "/job:worker/replica:0/task:1", "worker 2 (c:3) was lost during `fit`"),
        (WORKERS, "/job:worker/replica:0/task:0", "another worker was lost during `fit`"),
    ],
)
def test_a_lost_worker_is_named(cluster, task, named):
    explained = explain(_broken(task), "fit", cluster)
    assert isinstance(explained, tf.errors.UnavailableError)
    assert named in str(explained)


def test_the_watchdogs_message_is_what_the_user_reads():
    message = "worker 1 (b:2) did not answer within 5 s: worker 0 waits in a step"
    error = tf.errors.DeadlineExceededError(
        None, None, f"Graph execution error\nCollective ops is aborted by: {message}\nThe error"
    )
    explained = explain(error, "fit", WORKERS)
    assert isinstance(explained, TimeoutError)
    assert str(explained) == message


def test_a_lost_worker_whose_message_speaks_of_answers_is_a_lost_worker():
    text = "Collective ops is aborted by: the server did not answer within its deadline\n"
    error = tf.errors.UnavailableError(None, None, f"{text}/job:worker/replica:0/task:1")
    assert "worker 1 (b:2) was lost during `fit`" in str(explain(error, "fit", WORKERS))


@pytest.mark.parametrize(
    ("kind", "task", "expected"),
    [
        (tf.errors.UnavailableError, "/job:worker/replica:0/task:1", True),
        (tf.errors.CancelledError, "/job:worker/replica:0/task:1", True),
        (tf.errors.UnavailableError, "/job:ps/replica:0/task:1", False),
        (tf.errors.InvalidArgumentError, "/job:worker/replica:0/task:1", False),
    ],
)
def test_a_step_whose_worker_was_lost_may_come_back(kind, task, expected):
    assert may_come_back(kind(None, None, f"from {task}")) == expected


def test_other_errors_stay_what_they_are():
    error = tf.errors.InvalidArgumentError(None, None, "indices[0] = 7 is not in [0, 5)")
    assert explain(error, "fit", WORKERS) is None


def test_a_collective_that_cannot_run_is_no_lost_worker():
    text = "Collective ops is aborted by: Collective all-reduce does not support datatype DT_BOOL"
    error = tf.errors.InternalError(None, None, f"{text}\nThe error could be from a previous one")
    assert explain(error, "fit", WORKERS) is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TimeoutError("worker 1 did not answer"), TimeoutError, "worker 1 did not answer"),
        (
            WorkersLost([("worker 1 (b:2)", "it closed the connection")]),
            tf.errors.UnavailableError,
            "worker 1 (b:2) was lost during `fit`: it closed the connection",
        ),
        (
            WorkersLost([("worker 1", "it ended"), ("worker 2", "it sleeps")], "worker 3"),
            tf.errors.UnavailableError,
            "worker 1 was lost during `fit`: it ended; worker 2 was lost during `fit`: it sleeps, "
            "while waiting for worker 3",
        ),
        (ConnectionError("worker 1 makes a different call"), RuntimeError, "`fit`: worker 1 makes"),
    ],
)
def test_a_broken_ring(error, kind, text):
    explained = explain_ring(error, "fit")
    assert isinstance(explained, kind) and text in str(explained)


def test_a_lost_parameter_server_is_named_and_nothing_else():
    worker, server = (_broken(f"/job:{job}/replica:0/task:1") for job in ("worker", "ps"))
    assert explain_server(worker, "fit", WITH_SERVERS) is None
    other = tf.errors.InvalidArgumentError(None, None, "/job:ps/replica:0/task:1")
    assert explain_server(other, "fit", WITH_SERVERS) is None
    text = str(explain_server(server, "fit", WITH_SERVERS))
    assert "parameter server 1 (q:1) was lost during `fit`" in text
    assert "--max-restarts" in text
