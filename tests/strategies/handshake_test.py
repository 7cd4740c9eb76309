import contextlib
import errno
import json
import re
import socket
import sys
import threading
import time

import pytest
import slowness

from tfdist.strategies import handshake

linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the rules for two sockets on a port are Linux'"
)
pytestmark = linux

DEADLINE_S = slowness.seconds(20.0)
FACTS = {"tensorflow": "2.21.0", "Python": "3.11"}


@contextlib.contextmanager
def ports(count):
    """Yields `count` loopback addresses whose ports are held as the launcher holds them.

    Bound, not listening, and SO_REUSEADDR set after that: nobody else is given
    them, so the tests do not race for free ports.
    """
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(family)) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        yield [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]


def start(function):
    """Calls `function` on a thread; returns a function that waits for its result or error."""
    outcome = []

    def call():
        try:
            outcome.append(function())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()

    def wait():
        thread.join(DEADLINE_S)
        assert outcome, f"no answer within {DEADLINE_S} s"
        return outcome[0]

    return wait


def meet_all(addresses, workers=None, timeout=DEADLINE_S, **facts_of):
    """What `meet` returns, or raises, on each of `workers` of the cluster, by index."""
    workers = range(len(addresses)) if workers is None else workers

    def meet(index):
        facts = {**FACTS, "seed": 100 + index, **facts_of.get(f"worker{index}", {})}
        return handshake.meet(addresses, index, facts, timeout)

    waits = {index: start(lambda index=index: meet(index)) for index in workers}
    return {index: wait() for index, wait in waits.items()}


@pytest.mark.parametrize("workers", [2, 5])
def test_all_meet_and_get_the_facts_of_the_chief(workers):
    with ports(workers) as addresses:
        outcomes = meet_all(addresses)
        assert outcomes == {index: {**FACTS, "seed": 100} for index in range(workers)}
        # The ports are free again for TensorFlow, though a connection has used them.
        assert meet_all(addresses) == outcomes


def test_a_single_worker_meets_itself():
    with ports(1) as addresses:
        assert meet_all(addresses, timeout=0.0) == {0: {**FACTS, "seed": 100}}


def test_workers_may_come_before_the_chief():
    with ports(3) as addresses:
        tried = threading.Event()
        create_connection = socket.create_connection

        def connect(*args, **kwargs):
            try:
                return create_connection(*args, **kwargs)
            finally:
                tried.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handshake.socket, "create_connection", connect)
            waits = [
                start(lambda i=i: handshake.meet(addresses, i, {**FACTS, "seed": i}, DEADLINE_S))
                for i in (1, 2)
            ]
            assert tried.wait(DEADLINE_S)  # in vain: there is no chief
            chief = handshake.meet(addresses, 0, {**FACTS, "seed": 0}, DEADLINE_S)
            assert [wait() for wait in waits] == [chief, chief]


@pytest.mark.parametrize("missing", [[2], [1, 3]])
def test_a_missing_worker_is_named_on_all_others(missing):
    with ports(4) as addresses:
        present = [index for index in range(4) if index not in missing]
        for error in meet_all(addresses, present, timeout=1.0).values():
            assert type(error) is TimeoutError
            for index in range(4):
                named = f"worker {index} ({addresses[index]})" in str(error)
                assert named == (index in missing)
            assert "did not come within 1 s, of 4 workers" in str(error)
            assert "TFDIST_START_TIMEOUT" in str(error)


def test_a_missing_chief_is_named():
    with ports(3) as addresses:
        for index, error in meet_all(addresses, [1, 2], timeout=0.5).items():
            assert type(error) is TimeoutError
            message = f"worker {index} could not reach the chief at {addresses[0]} within 0.5 s"
            assert message in str(error)


def test_a_chief_that_ends_is_noticed():
    with ports(2) as addresses:
        port = int(addresses[0].rpartition(":")[2])
        with socket.socket() as chief:
            chief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            chief.bind(("127.0.0.1", port))
            chief.listen()
            chief.settimeout(DEADLINE_S)
            wait = start(lambda: handshake.meet(addresses, 1, FACTS, DEADLINE_S))
            connection, _ = chief.accept()
            connection.close()
        error = wait()
    assert type(error) is TimeoutError
    assert f"reached the chief at {addresses[0]}, which did not answer" in str(error)


@pytest.mark.parametrize("index", [0, 1])
def test_a_port_in_use_is_named(index):
    with ports(2) as addresses, socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        addresses[index] = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"worker {index} cannot listen on port") as error:
            handshake.meet(addresses, index, FACTS, DEADLINE_S)
    assert error.value.errno == errno.EADDRINUSE
    assert f"its address {addresses[index]}" in str(error.value)
    assert "choose a free one in TF_CONFIG" in str(error.value)


def test_different_versions_are_named_on_all():
    with ports(2) as addresses:
        outcomes = meet_all(addresses, worker1={"tensorflow": "2.20.0"})
    for error in outcomes.values():
        assert type(error) is RuntimeError
        message = f"differ in tensorflow: 2.20.0 on worker 1 ({addresses[1]}), 2.21.0 on the chief"
        assert message in str(error)


def test_a_fact_that_one_has_alone_is_a_difference():
    with ports(2) as addresses:
        for error in meet_all(addresses, worker0={"devices": "1 GPU"}).values():
            assert "differ in devices: None on worker 1" in str(error)


def test_different_clusters_are_named_on_all():
    with ports(3) as addresses:
        mine, theirs = addresses[:2], [addresses[0], addresses[1], addresses[2]]
        worker = start(lambda: handshake.meet(theirs, 1, FACTS, DEADLINE_S))
        chief = start(lambda: handshake.meet(mine, 0, FACTS, DEADLINE_S))
        for error in (worker(), chief()):
            assert type(error) is RuntimeError
            assert "worker 1 has another cluster in its TF_CONFIG than the chief" in str(error)
            assert f"{theirs} against {mine}" in str(error)


def test_two_workers_with_one_index_are_noticed(monkeypatch):
    with ports(3) as addresses:
        bind = handshake._bind

        def elsewhere(address, index):
            # As on machines of their own: both have the port.
            return bind(address, index) if index == 0 else socket.socket()

        monkeypatch.setattr(handshake, "_bind", elsewhere)
        waits = [
            start(lambda i=i: handshake.meet(addresses, i, FACTS, DEADLINE_S)) for i in (0, 1, 1)
        ]
        for error in [wait() for wait in waits]:
            assert type(error) is RuntimeError
            assert "two workers have the index 1 in TF_CONFIG" in str(error)


def connect(address):
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=DEADLINE_S)
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens at {address}"
            time.sleep(0.02)


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        json.dumps({"magic": "something else", "index": 1}).encode() + b"\n",
    ],
)
def test_a_stranger_is_ignored(garbage):
    with ports(2) as addresses:
        chief = start(lambda: handshake.meet(addresses, 0, {**FACTS, "seed": 7}, DEADLINE_S))
        with connect(addresses[0]) as stranger:
            stranger.sendall(garbage)
            stranger.shutdown(socket.SHUT_WR)
            assert stranger.recv(100) == b""  # turned away, and told nothing
        worker = handshake.meet(addresses, 1, FACTS, DEADLINE_S)
        assert worker == chief() == {**FACTS, "seed": 7}


def test_the_timeout_comes_from_the_environment(monkeypatch):
    assert handshake.start_timeout() > 60
    monkeypatch.setenv("TFDIST_START_TIMEOUT", "0.25")
    with ports(2) as addresses:
        expected = re.escape(f"worker 1 ({addresses[1]}) did not come within 0.25 s")
        with pytest.raises(TimeoutError, match=expected):
            handshake.meet(addresses, 0, FACTS)
