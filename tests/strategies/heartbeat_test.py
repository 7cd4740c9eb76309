import time

import pytest
import slowness

from tfdist.strategies import heartbeat as module
from tfdist.strategies.heartbeat import Heartbeat
from tfdist.tf_config import Cluster

WORKERS = Cluster(("a:1", "b:2", "c:3"))
WITH_CHIEF = Cluster(("a:1", "b:2", "c:3"), job="chief", has_chief=True)


def answer(heartbeat):
    """Asks until the first answer is there."""
    deadline = time.monotonic() + slowness.seconds(10)
    heartbeat.lost()
    while heartbeat._asked is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    return heartbeat.lost()


@pytest.mark.parametrize(
    ("cluster", "lost", "names"),
    [
        (WORKERS, {"worker": [1]}, ["worker 1 (b:2)"]),
        (WORKERS, {"worker": [0, 2]}, ["worker 0 (a:1)", "worker 2 (c:3)"]),
        (WITH_CHIEF, {"worker": [1]}, ["worker 2 (c:3)"]),
        (WITH_CHIEF, {"chief": [0]}, ["worker 0 (a:1)"]),
    ],
)
def test_lost_workers_are_named(monkeypatch, cluster, lost, names):
    asked = []

    def lost_tasks(job, count):
        asked.append((job, count))
        return lost.get(job, [])

    monkeypatch.setattr(module.coordination, "lost_tasks", lost_tasks)
    expected = [(name, "it ended, or does not answer") for name in names]
    assert answer(Heartbeat(cluster)) == expected
    assert asked[: 1 + cluster.has_chief] == (
        [("chief", 1), ("worker", 2)] if cluster.has_chief else [("worker", 3)]
    )


def test_all_is_well_or_the_service_is_gone(monkeypatch):
    monkeypatch.setattr(module.coordination, "lost_tasks", lambda job, count: [])
    assert answer(Heartbeat(WORKERS)) == []

    def gone(job, count):
        raise RuntimeError

    monkeypatch.setattr(module.coordination, "lost_tasks", gone)
    assert answer(Heartbeat(WORKERS)) == []


def test_a_service_that_does_not_answer_is_the_chief_that_is_lost(monkeypatch):
    monkeypatch.setattr(module.coordination, "lost_tasks", lambda job, count: time.sleep(2) or [])
    monkeypatch.setattr(module, "_PATIENCE_S", 0.2)
    heartbeat = Heartbeat(WORKERS)
    assert heartbeat.lost() == []  # it does not wait
    time.sleep(0.3)
    assert heartbeat.lost() == [("worker 0 (a:1)", "it does not answer")]
