import json
import re

import pytest

import tfdist


def describe(monkeypatch, jobs, job, index):
    config = {"cluster": jobs, "task": {"type": job, "index": index}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


def test_without_a_cluster_there_is_one_worker(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert (tfdist.rank(), tfdist.world_size(), tfdist.is_chief()) == (0, 1, True)


@pytest.mark.parametrize("job, index, rank", [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)])
def test_they_read_tf_config(monkeypatch, job, index, rank):
    describe(monkeypatch, {"worker": ["a:1", "b:1"], "chief": ["c:1"]}, job, index)
    assert (tfdist.rank(), tfdist.world_size()) == (rank, 3)
    assert tfdist.is_chief() == (rank == 0)


def test_a_malformed_tf_config_is_an_error(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    for ask in (tfdist.rank, tfdist.world_size, tfdist.is_chief, tfdist.barrier):
        with pytest.raises(ValueError, match="TF_CONFIG cannot be used"):
            ask()


def test_a_barrier_for_one_worker_returns(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert tfdist.barrier("alone", timeout=0.001) is None
    describe(monkeypatch, {"worker": ["a:1"]}, "worker", 0)
    assert tfdist.barrier("alone", timeout=0.001) is None


def test_a_barrier_before_the_strategy_says_so(monkeypatch):
    describe(monkeypatch, {"worker": ["a:1", "b:1"]}, "worker", 0)
    message = "tfdist.barrier('saved') needs the workers to have met: make the strategy first"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        tfdist.barrier("saved", timeout=0.001)
