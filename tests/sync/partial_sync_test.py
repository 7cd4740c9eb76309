import itertools

import numpy as np
import pytest
import sync_oracle as oracle
import sync_replicas

from tfdist.sync.partial_sync import PartialSync, groups_table

MOMENTUM = oracle.SGD(0.05, momentum=0.9)


@pytest.mark.parametrize(
    ("workers", "group_size", "resync_every"),
    [(2, 2, 3), (4, 2, 1), (4, 2, 7), (4, 3, 6), (4, 4, 50), (4, 2, 50)],
)
def test_it_averages_in_the_groups_of_the_table(workers, group_size, resync_every):
    table = groups_table(workers, group_size, seed=3)
    expected = oracle.train(workers, oracle.PartialSync(table, resync_every), MOMENTUM)
    make = lambda: PartialSync(group_size, resync_every, seed=3)  # noqa: E731
    trained = sync_replicas.train(make, workers, MOMENTUM)
    sync_replicas.assert_is(trained, expected, make(), 1e-11)
    np.testing.assert_array_equal(
        trained.said[:, 0], [t % resync_every == 0 for t in range(1, oracle.STEPS + 1)]
    )


@pytest.mark.parametrize("workers", [2, 4])
def test_one_group_of_all_is_synchronous_sgd(workers):
    expected = oracle.train(workers, oracle.Synchronous(), MOMENTUM)
    trained = sync_replicas.train(lambda: PartialSync(workers, 100), workers, MOMENTUM)
    np.testing.assert_allclose(trained.models, expected.models, rtol=0, atol=1e-11)
    assert (trained.models == trained.models[:, :1]).all()


def test_float32():
    expected = oracle.train(4, oracle.PartialSync(groups_table(4, 2), 7), MOMENTUM)
    trained = sync_replicas.train(lambda: PartialSync(2, 7), 4, MOMENTUM, "float32")
    sync_replicas.assert_is(trained, expected, PartialSync(2, 7), 1e-5)


@pytest.mark.parametrize(("workers", "group_size"), [(2, 2), (4, 2), (4, 3)])
def test_bytes_per_step_are_those_that_are_sent(workers, group_size):
    make = lambda: PartialSync(group_size, resync_every=5)  # noqa: E731
    trained = sync_replicas.train(make, workers, MOMENTUM, "float32")
    said = make().bytes_per_step([(3, 2), (2,)], workers)
    assert trained.sent.mean() == pytest.approx(said)
    # By hand: each step one group of g and one of what is left, each fifth one all.
    groups = [group_size] * (workers // group_size) + [workers % group_size or 1]
    groups = groups[: -(-workers // group_size)]
    steps = sum(size * 2 * (size - 1) / size for size in groups) / workers
    assert said == pytest.approx(8 * 4 * (steps + 2 * (workers - 1) / workers / 5))


def test_when_replicas_agree():
    algorithm = PartialSync(2, resync_every=4)
    assert [step for step in range(13) if algorithm.agrees_at(step)] == [0, 4, 8, 12]
    trained = sync_replicas.train(lambda: PartialSync(2, 4), 4, MOMENTUM)
    same = (trained.models == trained.models[:, :1]).all(axis=(1, 2))
    assert same[3::4].all() and not same.all()


# -- the table of groups -----------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("replicas", "group_size"),
    [(2, 2), (3, 2), (4, 2), (4, 3), (4, 4), (5, 2), (7, 3), (8, 2), (8, 4), (16, 4), (33, 8)],
)
def test_every_pair_meets_in_groups_of_the_size(replicas, group_size, seed):
    table = groups_table(replicas, group_size, seed)
    assert table.dtype == np.int32 and table.shape[1] == replicas
    met = set()
    rest = replicas % group_size
    expected = sorted([group_size] * (replicas // group_size) + [rest] * (rest > 0))
    for groups in table:
        numbers, sizes = np.unique(groups, return_counts=True)
        assert sorted(sizes) == expected
        for number in numbers:
            met |= set(itertools.combinations(np.flatnonzero(groups == number).tolist(), 2))
    assert met == set(itertools.combinations(range(replicas), 2))
    # No more rounds than a few times those that count all pairs.
    pairs = sum(size * (size - 1) / 2 for size in expected)
    assert len(table) <= 4 * np.ceil(replicas * (replicas - 1) / 2 / pairs) + 4


def test_the_table_follows_its_seed():
    same = [groups_table(8, 2, seed=5) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    others = [groups_table(8, 2, seed) for seed in range(4)]
    assert len({table.tobytes() for table in others}) == 4


def test_one_group_of_all_is_one_round():
    np.testing.assert_array_equal(groups_table(6, 6), np.zeros((1, 6)))


# -- arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"group_size": 1, "resync_every": 4}, "group_size=1: expected an int of at least 2"),
        ({"group_size": 2.5, "resync_every": 4}, "group_size=2.5"),
        ({"group_size": 2, "resync_every": 0}, "resync_every=0: expected an int of at least 1"),
        ({"group_size": 2, "resync_every": None}, "resync_every=None"),
        # None would draw another table on each worker.
        ({"group_size": 2, "resync_every": 4, "seed": None}, "seed=None: expected an int"),
        ({"group_size": 2, "resync_every": 4, "seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        PartialSync(**arguments)


def test_a_group_larger_than_the_number_of_replicas():
    with pytest.raises(ValueError, match=r"group_size=5: the strategy has 4 replicas.* 2 to 4"):
        PartialSync(5, 8).check(4, None, [])
    PartialSync(4, 8).check(4, None, [])


def test_its_config():
    config = {"group_size": 2, "resync_every": 8, "seed": 7}
    assert PartialSync(**config).get_config() == config
