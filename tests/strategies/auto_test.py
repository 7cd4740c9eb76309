import json

import pytest
import tensorflow as tf

import tfdist
from tfdist.strategies import auto
from tfdist.strategies import tpu as tpu_module

TASK = {"type": "worker", "index": 0}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("TPU_NAME", raising=False)
    return monkeypatch


def describe(monkeypatch, **jobs):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": TASK}))


class Made:
    def __init__(self, *args):
        self.args = args


def test_one_machine():
    strategy = tfdist.auto_strategy()
    assert type(strategy) is tfdist.MirroredStrategy
    stock = tf.distribute.MirroredStrategy()
    assert strategy.extended.worker_devices == stock.extended.worker_devices


@pytest.mark.parametrize("workers", [["a:1"], ["a:1", "b:1"]])
def test_a_cluster(monkeypatch, workers):
    monkeypatch.setattr(auto, "MultiWorkerMirroredStrategy", Made)
    describe(monkeypatch, worker=workers)
    strategy = tfdist.auto_strategy()
    assert type(strategy) is Made and strategy.args == ()
    monkeypatch.setenv("TPU_NAME", "node-1")  # what `tfdist run` says goes first
    assert type(tfdist.auto_strategy()) is Made


def test_an_empty_cluster_is_one_machine(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    assert type(tfdist.auto_strategy()) is tfdist.MirroredStrategy


def test_parameter_servers(monkeypatch):
    describe(monkeypatch, worker=["a:1"], ps=["b:1"], chief=["c:1"])
    monkeypatch.setattr(auto, "ParameterServerStrategy", Made)
    strategy = tfdist.auto_strategy()
    assert type(strategy) is Made and strategy.args == ()


@pytest.mark.parametrize("missing", ["chief", "ps"])
def test_parameter_servers_without_all_their_jobs(monkeypatch, missing):
    jobs = {"worker": ["a:1"], "ps": ["b:1"], "chief": ["c:1"]}
    describe(monkeypatch, **{job: there for job, there in jobs.items() if job != missing})
    with pytest.raises(ValueError, match=f"TF_CONFIG has no '{missing}'. Start the script with"):
        tfdist.ParameterServerStrategy()


def test_a_malformed_tf_config(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG cannot be used: it is not valid JSON"):
        tfdist.auto_strategy()


def test_a_tpu(monkeypatch):
    calls = []
    monkeypatch.setenv("TPU_NAME", "node-1")
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", Made)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", calls.append)
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", calls.append)
    monkeypatch.setattr(tpu_module, "TPUStrategy", Made)
    strategy = tfdist.auto_strategy()
    (resolver,) = strategy.args
    assert calls == [resolver, resolver]
