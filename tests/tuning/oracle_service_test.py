"""How the workers of a search hear of each other, with workers that are threads here."""

import json
import os
import socket
import threading

import pytest

from tfdist import tf_config
from tfdist.tuning import oracle_service
from tfdist.tuning.oracle_service import OracleService

ADDRESSES = ("127.0.0.1:1", "127.0.0.1:2")


def service(directory, index):
    return OracleService(directory, tf_config.Cluster(addresses=ADDRESSES, index=index))


class Tuner:
    """A chief that listens, as KerasTuner's does, and knows what it was told to be."""

    sockets = []

    def __init__(self):
        self.name = os.environ["KERASTUNER_TUNER_ID"]
        self._socket = socket.socket()
        self.sockets.append(self._socket)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address = os.environ["KERASTUNER_ORACLE_IP"], int(os.environ["KERASTUNER_ORACLE_PORT"])
        self._socket.bind(address)

    def search(self, verbose):
        self._socket.listen()


@pytest.fixture(autouse=True)
def closed():
    yield
    while Tuner.sockets:
        Tuner.sockets.pop().close()


def search(one, results):
    """What worker 0 does, or the other; returns where the oracle was, and the results."""
    if one._rank == 0:
        assert one.serve(Tuner).name == "chief"
    where = one.find()
    one.done()
    if one._rank == 0:
        one.wait_for_all()
        one.publish(results)
    return where, one.read()


def all_search(directory, results):
    found = {}

    def run(index):
        with service(directory, index) as one:
            found[index] = search(one, results)

    threads = [threading.Thread(target=run, args=(index,)) for index in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.timeout(120)
def test_all_find_the_oracle_and_get_its_results(tmp_path):
    found = all_search(tmp_path, [{"trial": "0"}])
    assert found[0] == found[1]
    assert found[0][1] == [{"trial": "0"}]


@pytest.mark.timeout(120)
def test_what_an_earlier_start_left_is_not_taken_for_this_ones(tmp_path):
    first = all_search(tmp_path, ["old"])
    second = all_search(tmp_path, [])
    assert second[0] == second[1]
    assert second[1][1] == []
    assert second[1][0] != first[1][0]  # another port


@pytest.mark.timeout(120)
def test_a_worker_that_is_gone_is_named(tmp_path, monkeypatch):
    with service(tmp_path, 0) as one:
        one.serve(Tuner)
        one.find()
        one.done()
        monkeypatch.setattr(oracle_service, "_SILENCE_S", 1.0)
        with pytest.raises(
            TimeoutError, match=r"worker 1 \(127.0.0.1:2\) has not ended its trials"
        ):
            one.wait_for_all()


@pytest.mark.timeout(120)
def test_an_oracle_that_never_comes_is_named_though_an_old_one_is_there(tmp_path, monkeypatch):
    all_search(tmp_path, [])
    monkeypatch.setattr(oracle_service, "_SILENCE_S", 1.0)
    assert json.loads((tmp_path / "workers" / "oracle.json").read_text())["port"]
    with service(tmp_path, 1) as one:
        with pytest.raises(TimeoutError, match=r"worker 0 \(127.0.0.1:1\) has not started in"):
            one.find()
