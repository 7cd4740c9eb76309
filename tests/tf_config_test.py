import json
import re

import pytest

from tfdist.tf_config import Cluster, from_environment

WORKERS = {"worker": ["a:1", "b:2"]}
FIRST = {"type": "worker", "index": 0}


def read(config):
    text = config if isinstance(config, str) else json.dumps(config)
    return from_environment({"TF_CONFIG": text})


@pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": " \n"}])
def test_unset_or_empty_is_no_cluster(environ):
    assert from_environment(environ) == Cluster((), 0, "worker", ())


@pytest.mark.parametrize("config", [{}, {"cluster": {}}, {"cluster": None, "task": FIRST}])
def test_without_workers_it_is_no_cluster(config):
    # Managed services set it for a job of one machine, too.
    assert read(config) == Cluster()


def test_it_reads_the_environment_by_default(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": WORKERS, "task": FIRST}))
    assert from_environment().addresses == ("a:1", "b:2")
    monkeypatch.delenv("TF_CONFIG")
    assert from_environment().addresses == ()


@pytest.mark.parametrize("index", [1, "1"])
def test_workers(index):
    cluster = read({"cluster": WORKERS, "task": {"type": "worker", "index": index}})
    assert cluster == Cluster(("a:1", "b:2"), 1, "worker", ())


# The chief is worker 0, wherever it stands in the description.
@pytest.mark.parametrize(
    "task, index",
    [
        ({"type": "chief", "index": 0}, 0),
        ({"type": "worker", "index": 0}, 1),
        ({"type": "worker", "index": 1}, 2),
    ],
)
@pytest.mark.parametrize("jobs", [("chief", "worker"), ("worker", "chief")])
def test_the_chief_comes_first(jobs, task, index):
    addresses = {"chief": ["c:3"], **WORKERS}
    cluster = read({"cluster": {job: addresses[job] for job in jobs}, "task": task})
    assert cluster.addresses == ("c:3", "a:1", "b:2")
    assert (cluster.index, cluster.job) == (index, task["type"])


def test_an_evaluator_is_not_one_of_the_workers():
    task = {"type": "evaluator", "index": 0}
    for cluster in (WORKERS, {**WORKERS, "evaluator": ["e:5"]}):
        assert read({"cluster": cluster, "task": task}) == Cluster(
            ("a:1", "b:2"), 0, "evaluator", ()
        )


def test_parameter_servers_are_no_workers():
    cluster = {**WORKERS, "ps": ["p:1", "q:1"]}
    as_ps = read({"cluster": cluster, "task": {"type": "ps", "index": 1}})
    assert as_ps == Cluster(("a:1", "b:2"), 1, "ps", ("p:1", "q:1"))
    assert read({"cluster": cluster, "task": FIRST}).parameter_servers == ("p:1", "q:1")


def test_ipv6_addresses():
    cluster = read({"cluster": {"worker": ["[::1]:5", "[fe80::2]:65535"]}, "task": FIRST})
    assert cluster.addresses == ("[::1]:5", "[fe80::2]:65535")


MALFORMED = {
    "not JSON": ("{'cluster': 1}", "it is not valid JSON"),
    "a list": ([], "it is not a JSON object"),
    "a string": ('"worker"', "it is not a JSON object"),
    "no task": ({"cluster": WORKERS}, 'it has a "cluster" but no "task"'),
    "a task that is no object": ({"cluster": WORKERS, "task": "worker"}, 'no "task" with a "type"'),
    "a task without index": ({"cluster": WORKERS, "task": {"type": "worker"}}, 'and an "index"'),
    "a task without type": ({"cluster": WORKERS, "task": {"index": 0}}, 'with a "type"'),
    "a cluster that is a list": (
        {"cluster": ["a:1"], "task": FIRST},
        '"cluster" must be an object',
    ),
    "an unknown job": ({"cluster": {"wroker": ["a:1"]}, "task": FIRST}, "unknown job 'wroker'"),
    "addresses that are no list": (
        {"cluster": {"worker": "a:1"}, "task": FIRST},
        "must give 'worker' a list of addresses",
    ),
    "no addresses": (
        {"cluster": {"worker": []}, "task": FIRST},
        "must give 'worker' a list of addresses",
    ),
    "one address for two": (
        {"cluster": {"worker": ["a:1", "b:1", "a:1"]}, "task": FIRST},
        "worker 2 and worker 0 share 'a:1'",
    ),
    "one address for two jobs": (
        {"cluster": {"chief": ["a:1"], "worker": ["a:1"]}, "task": FIRST},
        "worker 0 and chief 0 share 'a:1'",
    ),
    "two chiefs": (
        {"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}},
        "there can be one chief, not 2",
    ),
    "a type that is not there": (
        {"cluster": WORKERS, "task": {"type": "chief", "index": 0}},
        "this task's type 'chief' is not in the \"cluster\" (['worker'])",
    ),
    "an index past the end": (
        {"cluster": WORKERS, "task": {"type": "worker", "index": 2}},
        "this task's index is 2, but the \"cluster\" has 2 'worker'",
    ),
    **{
        f"the index {index!r}": (
            {"cluster": WORKERS, "task": {"type": "worker", "index": index}},
            f"this task's index must be a non-negative integer, not {index!r}",
        )
        for index in (-1, 1.5, True, "one", None, [0])
    },
    **{
        f"the address {address!r}": (
            {"cluster": {"worker": ["a:1", address]}, "task": FIRST},
            f"worker 1 has the address {address!r}, not host:port",
        )
        for address in ("b", "b:", ":1", "b:http", "b:65536", "b:-1", 5, None, "")
    },
}


@pytest.mark.parametrize("config, message", MALFORMED.values(), ids=MALFORMED)
def test_errors_say_what_was_received_and_what_to_do(config, message):
    text = config if isinstance(config, str) else json.dumps(config)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read(config)
    problem, received, expected, advice = str(error.value).split("\n")
    assert problem.startswith("TF_CONFIG cannot be used: ")
    assert received == f"Received: {text}"
    assert "`tfdist run`" in advice
    example = expected.removeprefix("Expected something like: ")
    assert read(example).index == json.loads(example)["task"]["index"]  # the advice is good
