from types import SimpleNamespace

import pytest

from tfdist.cluster.terms import complaint, is_join

TERMS = {"nnodes": 2, "max_restarts": 1, "parameter_servers": 0, "version": "1"}
JOIN = {**TERMS, "node_rank": 1, "hostname": "b", "address": "10.0.0.2", "ports": [1, 2]}


def test_a_join_is_known_by_what_it_says():
    assert is_join(JOIN)
    for name in JOIN:
        assert not is_join({key: value for key, value in JOIN.items() if key != name})
        assert not is_join({**JOIN, name: object()})


def test_the_same_terms_are_welcome():
    assert complaint(TERMS, JOIN, None) is None


@pytest.mark.parametrize(
    ("name", "theirs", "words"),
    [
        ("nnodes", 3, "--nnodes differs: node 1 (b) has 3, node 0 has 2"),
        ("max_restarts", 0, "--max-restarts differs: node 1 (b) has 0, node 0 has 1"),
        ("parameter_servers", 1, "--ps differs: node 1 (b) has 1, node 0 has 0"),
        ("version", "2", "the tfdist version differs: node 1 (b) has 2, node 0 has 1"),
    ],
)
def test_other_terms_are_named(name, theirs, words):
    said = complaint(TERMS, {**JOIN, name: theirs}, None)
    assert said == f"{words}; give all nodes the same"


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_beyond_the_nodes(rank):
    assert complaint(TERMS, {**JOIN, "node_rank": rank}, None) == (
        f"the node rank {rank} of b is not in 0..1"
    )


def test_a_rank_that_is_taken():
    other = SimpleNamespace(hostname="c", address="10.0.0.3")
    assert complaint(TERMS, JOIN, other) == (
        "two nodes came with --node-rank 1: c (10.0.0.3) and b (10.0.0.2); give each node a rank "
        "of its own"
    )
