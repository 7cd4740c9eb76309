import json

import pytest

from tfdist.cluster.environment import divide_cores, usable_cores, worker_environment

CLUSTER = ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:3"]


@pytest.mark.parametrize("cores, workers", [(8, 2), (7, 3), (3, 3), (2, 1)])
def test_cores_are_divided_without_overlap(cores, workers):
    parts = [part or list(range(cores)) for part in divide_cores(list(range(cores)), workers)]
    assert sorted(core for part in parts for core in part) == list(range(cores))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_worker_finds_its_place():
    environment = worker_environment(CLUSTER, 2, 0, 1, restart_count=4)
    assert json.loads(environment["TF_CONFIG"]) == {
        "cluster": {"worker": CLUSTER},
        "task": {"type": "worker", "index": 2},
    }
    assert environment["TFDIST_LOCAL_RANK"] == "0"
    assert environment["TFDIST_LOCAL_WORLD_SIZE"] == "1"
    assert environment["TFDIST_RESTART_COUNT"] == "4"
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_each_process_finds_its_job_beside_parameter_servers():
    cluster = ["h:1", "h:2", "h:3", "h:4", "i:5"]
    tasks = []
    for rank in range(5):
        environment = worker_environment(cluster, 0, rank, 2, parameter_servers=2)
        config = json.loads(environment["TF_CONFIG"])
        assert config["cluster"] == {
            "chief": ["h:1"],
            "ps": ["h:2", "h:3"],
            "worker": ["h:4", "i:5"],
        }
        tasks.append((config["task"]["type"], config["task"]["index"]))
    assert tasks == [("chief", 0), ("ps", 0), ("ps", 1), ("worker", 0), ("worker", 1)]


def test_tensorflow_is_quiet_unless_the_user_wants_to_hear_it(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert worker_environment(CLUSTER, 2, 0, 1)["TF_CPP_MIN_LOG_LEVEL"] == "1"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert worker_environment(CLUSTER, 2, 0, 1)["TF_CPP_MIN_LOG_LEVEL"] == "0"


def test_a_single_worker_has_no_cluster(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "from outside")
    assert "TF_CONFIG" not in worker_environment(CLUSTER[:1], 0, 0, 1)


def test_threads_are_a_share_of_the_cores_unless_set(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    environment = worker_environment(CLUSTER, 0, 0, 2)
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["TF_NUM_INTRAOP_THREADS"] == str(max(1, len(usable_cores()) // 2))
