"""The coordinator's decisions, with nodes that are queues."""

import queue

import pytest
import slowness

from tfdist.cluster import coordinator
from tfdist.cluster.coordinator import Coordinator


class Node:
    """A node's end of a channel."""

    def __init__(self, judge, rank, **terms):
        self._judge, self._inbox = judge, queue.SimpleQueue()
        self.terms = {"nnodes": 2, "max_restarts": 1, "parameter_servers": 0, "version": "1"}
        self.terms |= terms
        self.rank = rank

    def send(self, message):  # called by the coordinator
        self._inbox.put(message)

    def tell(self, kind, **content):
        self._judge.post(self, {"type": kind, **content})

    def join(self, ports):
        self.tell(
            "join",
            node_rank=self.rank,
            hostname=f"host{self.rank}",
            address=f"10.0.0.{self.rank}",
            ports=ports,
            **self.terms,
        )

    def hear(self, kind):
        message = self._inbox.get(timeout=slowness.seconds(20))
        assert message["type"] == kind, message
        return message


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(coordinator, "SETTLE_S", 0.2)
    monkeypatch.setattr(coordinator, "STOP_DEADLINE_S", 0.5)


@pytest.fixture
def judge():
    one = Coordinator(nnodes=2, max_restarts=1, version="1", timeout=20.0, where="h:1")
    one.start()
    yield one


def started(judge, attempt=0, nodes=None):
    nodes = nodes or [Node(judge, 0), Node(judge, 1)]
    nodes[1].join([3])
    nodes[0].join([1, 2])
    for node, first_rank in zip(nodes, (0, 2)):
        message = node.hear("start")
        assert message["cluster"] == ["10.0.0.0:1", "10.0.0.0:2", "10.0.0.1:3"]
        assert (message["first_rank"], message["attempt"]) == (first_rank, attempt)
    return nodes


def stopped(nodes, attempt=0, **tails):
    failures = [node.hear("stop")["failure"] for node in nodes]
    for node in nodes:
        node.tell("stopped", attempt=attempt, tail=tails.get(f"node{node.rank}", []))
    assert failures[0] == failures[1]
    return failures[0]


def test_success_when_all_have_ended(judge):
    nodes = started(judge)
    nodes[0].tell("ended", attempt=0)
    nodes[1].tell("ended", attempt=0)
    for node in nodes:
        assert node.hear("over") == {"type": "over", "failure": None, "restart": False}
    judge.join(20)


def test_the_earliest_failure_is_blamed_and_all_start_again(judge):
    nodes = started(judge)
    nodes[0].tell("failed", attempt=0, rank=1, code=1, age_s=0.0)
    nodes[1].tell("failed", attempt=0, rank=2, code=3, age_s=1.0)
    failure = stopped(nodes, node1=["its words"])
    assert failure["rank"] == 2
    assert failure["text"] == "worker 2 on node 1 (host1, 10.0.0.1) failed with exit code 3"
    for node in nodes:
        message = node.hear("over")
        assert message["restart"]
        assert message["failure"]["tail"] == ["its words"]
    # News of the attempt before is no news.
    nodes[0].tell("failed", attempt=0, rank=0, code=1, age_s=0.0)
    started(judge, attempt=1, nodes=nodes)
    nodes[0].tell("failed", attempt=1, rank=0, code=-15, age_s=0.0)
    assert stopped(nodes, attempt=1)["exit_code"] == 143
    assert [node.hear("over")["restart"] for node in nodes] == [False, False]
    judge.join(20)


def test_a_lost_node_is_blamed_before_what_it_caused(judge):
    nodes = started(judge)
    nodes[0].tell("failed", attempt=0, rank=1, code=1, age_s=0.0)
    nodes[1].tell("lost", reason="no more")
    failure = nodes[0].hear("stop")["failure"]
    assert failure["text"] == "node 1 (host1, 10.0.0.1) was lost: no more"
    nodes[0].tell("stopped", attempt=0, tail=[])
    message = nodes[0].hear("over")
    assert (message["restart"], message["failure"]["exit_code"]) == (False, 1)


def test_a_node_that_has_ended_may_go(judge):
    nodes = started(judge)
    nodes[1].tell("ended", attempt=0)
    nodes[1].tell("lost", reason="done")
    nodes[0].tell("ended", attempt=0)
    assert nodes[0].hear("over")["failure"] is None


def test_a_node_that_went_cannot_be_started_again(judge):
    nodes = started(judge)
    nodes[1].tell("ended", attempt=0)
    nodes[1].tell("lost", reason="done")
    nodes[0].tell("failed", attempt=0, rank=1, code=1, age_s=0.0)
    nodes[0].hear("stop")
    nodes[0].tell("stopped", attempt=0, tail=[])
    assert not nodes[0].hear("over")["restart"]


def test_a_node_that_is_told_to_stop_stops_all_at_once(judge):
    nodes = started(judge)
    nodes[1].tell("leaving", signal=2)
    failure = stopped(nodes)
    assert failure["text"] == "node 1 (host1, 10.0.0.1) was told to stop by SIGINT"
    assert failure["exit_code"] == 130
    assert [node.hear("over")["restart"] for node in nodes] == [False, False]


def test_a_signal_while_stopping_prevents_the_restart(judge):
    nodes = started(judge)
    nodes[0].tell("failed", attempt=0, rank=0, code=9, age_s=0.0)
    for node in nodes:
        node.hear("stop")
    nodes[1].tell("leaving", signal=15)
    for node in nodes:
        node.tell("stopped", attempt=0, tail=[])
    assert [node.hear("over")["restart"] for node in nodes] == [False, False]


def test_a_node_that_does_not_stop_is_not_waited_for(judge):
    nodes = started(judge)
    nodes[0].tell("failed", attempt=0, rank=0, code=9, age_s=0.0)
    nodes[0].hear("stop")
    nodes[0].tell("stopped", attempt=0, tail=[])
    assert not nodes[0].hear("over")["restart"]


def test_a_node_may_come_again_before_the_start(judge):
    early = Node(judge, 1)
    early.join([9])
    early.tell("lost", reason="restarted")
    started(judge)


@pytest.mark.parametrize(
    "terms, words",
    [
        ({"nnodes": 3}, "--nnodes differs: node 1 (host1) has 3, node 0 has 2"),
        ({"max_restarts": 0}, "--max-restarts differs: node 1 (host1) has 0, node 0 has 1"),
        ({"parameter_servers": 1}, "--ps differs: node 1 (host1) has 1, node 0 has 0"),
        ({"version": "2"}, "the tfdist version differs: node 1 (host1) has 2, node 0 has 1"),
    ],
)
def test_different_terms_are_refused(judge, terms, words):
    nodes = [Node(judge, 0), Node(judge, 1, **terms)]
    for node in nodes:
        node.join([1])
    for node in nodes:
        message = node.hear("refused")
        assert words in message["reason"]
        assert message["exit_code"] == 2


def test_the_same_rank_twice_is_refused(judge):
    nodes = [Node(judge, 1), Node(judge, 1)]
    for node in nodes:
        node.join([1])
    for node in nodes:
        assert "two nodes came with --node-rank 1: host1" in node.hear("refused")["reason"]


def test_a_late_stranger_does_not_end_the_run(judge):
    nodes = started(judge)
    stranger = Node(judge, 1)
    stranger.join([1])
    assert "two nodes came" in stranger.hear("refused")["reason"]
    nodes[0].tell("ended", attempt=0)
    nodes[1].tell("ended", attempt=0)
    assert nodes[1].hear("over")["failure"] is None


def test_nonsense_does_not_end_the_run(judge):
    Node(judge, 1).tell("join", node_rank="one")
    Node(judge, 1).tell("failed")
    Node(judge, 1).tell("whatever")
    started(judge)


def test_a_node_that_never_comes_is_named():
    judge = Coordinator(nnodes=4, max_restarts=1, version="1", timeout=0.2, where="h:1")
    node = Node(judge, 2, nnodes=4)
    node.join([1])
    judge.start()
    message = node.hear("refused")
    assert message["reason"] == "nodes 0, 1, 3 of 4 did not come to h:1 within 0.2 s"
    assert message["exit_code"] == 1
    judge.join(20)
