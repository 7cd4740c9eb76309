import socket
import warnings

import pytest

from tfdist.strategies import cpu_ring
from tfdist.sync.ring import Ring
from tfdist.tf_config import Cluster

ADDRESSES = ("a:1", "b:2")


@pytest.fixture
def told(monkeypatch):
    """What the workers tell each other; the other one has nothing to complain of."""
    values = {f"tfdist/ring/{worker}": "" for worker in range(2)}
    monkeypatch.setattr(cpu_ring.coordination, "put", values.__setitem__)
    monkeypatch.setattr(cpu_ring.coordination, "get", lambda key, seconds: values.get(key))
    return values


def connect_with(monkeypatch, result):
    def connect(index, addresses, put, get, timeout):
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(cpu_ring.mesh, "connect", connect)


def test_connected_workers_have_a_ring(monkeypatch, told):
    mine, theirs = socket.socketpair()
    connect_with(monkeypatch, {1: mine})
    with theirs:
        ring = cpu_ring._open(Cluster(ADDRESSES))
        assert isinstance(ring, Ring) and ring.size == 2
        ring.close()


def test_the_chief_says_why_tensorflows_collectives_are_used(monkeypatch, told):
    connect_with(monkeypatch, ConnectionRefusedError(111, "refused"))
    with pytest.warns(UserWarning, match=r"worker 0: .*refused.*TensorFlow's collectives"):
        assert cpu_ring._open(Cluster(ADDRESSES)) is None
    assert "refused" in told["tfdist/ring/0"]  # so that the others give theirs up, too


@pytest.mark.parametrize("complaint", ["worker 1: no route", None])
def test_one_that_cannot_connect_takes_the_ring_from_all(monkeypatch, told, complaint):
    mine, theirs = socket.socketpair()
    connect_with(monkeypatch, {1: mine})
    told["tfdist/ring/1"] = complaint
    with theirs, pytest.warns(UserWarning, match=complaint or r"worker 1 \(b:2\) did not come"):
        assert cpu_ring._open(Cluster(ADDRESSES)) is None
    assert mine.fileno() == -1  # closed


def test_a_worker_that_is_not_the_chief_is_quiet(monkeypatch, told):
    connect_with(monkeypatch, ConnectionRefusedError(111, "refused"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cpu_ring._open(Cluster(ADDRESSES, index=1)) is None
