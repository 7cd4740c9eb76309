import contextlib
import socket
import threading

import pytest
from rings import Store

from tfdist.sync import mesh

ADDRESSES = ["127.0.0.1:1", "127.0.0.1:2"]


def connect(index, store, results, timeout=30.0):
    try:
        results[index] = mesh.connect(index, ADDRESSES, store.put, store.get, timeout)
    except Exception as error:
        results[index] = error


def test_a_stranger_is_sent_away():
    store, results = Store(), {}
    first = threading.Thread(target=connect, args=(0, store, results), daemon=True)
    first.start()
    port = int(store.get("tfdist/mesh/0", 10))
    with socket.create_connection(("127.0.0.1", port), 5) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b" " * 40)
        connect(1, store, results)
        first.join(30)
        stranger.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""  # closed
    mine, theirs = results[0][1], results[1][0]
    theirs.setblocking(True)
    theirs.settimeout(5)
    mine.send(b"x")
    assert theirs.recv(1) == b"x"
    mine.close()
    theirs.close()


@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_does_not_come_is_named(index):
    store, results = Store(), {}
    if index == 1:
        store.put("tfdist/mesh/token", "0" * 32)
    connect(index, store, results, timeout=0.3)
    assert isinstance(results[index], TimeoutError)
    assert f"worker {1 - index} (127.0.0.1:{2 - index}) did not" in str(results[index])


def test_it_listens_at_its_own_address_alone():
    for host, where in [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("a-name", "0.0.0.0"),
        ("192.0.2.1", "0.0.0.0"),  # of nobody: this machine is behind address translation
    ]:
        with mesh._listen(host, 1) as listener:
            assert listener.getsockname()[0] == where
