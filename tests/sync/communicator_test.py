import time

import collectives
import numpy as np
import pytest
import tensorflow as tf
from rings import on_workers

import tfdist
from tfdist.sync.communicator import ReplicaCommunicator, Traffic

N = 2


def values_of(replica):
    """Mixed dtypes, in an order that packing by dtype must undo."""
    rng = np.random.default_rng(replica)
    return [
        rng.normal(size=(2, 3)).astype("float32"),
        rng.normal(size=()).astype("float64"),
        rng.integers(-9, 9, size=4).astype("int32"),
        rng.normal(size=5).astype("float32"),
        rng.normal(size=(3, 1)).astype("float16"),
        rng.integers(-(2**60), 2**60, size=2).astype("int64"),
        rng.normal(size=(0, 2)).astype("float32"),
        rng.normal(size=2).astype("float64"),
    ]


def constants(replica_id, function):
    """On each replica the values that `function` has for it."""
    per_replica = [function(replica) for replica in range(N)]
    return [
        tf.switch_case(replica_id, [lambda v=v: tf.constant(v) for v in each])
        for each in zip(*per_replica)
    ]


def test_all_reduce_sums_every_dtype_on_all_replicas():
    strategy = tfdist.MirroredStrategy(["CPU:0", "CPU:1"])

    @tf.function
    def step():
        def on_replica():
            replica = strategy.replica_id()
            return strategy.communicator().all_reduce(constants(replica, values_of))

        return strategy.run(on_replica)

    results = [strategy.experimental_local_results(value) for value in step()]
    expected = [sum(values) for values in zip(*map(values_of, range(N)))]
    assert len(results) == len(expected)
    for replicas, total in zip(results, expected):
        assert len(replicas) == N
        for value in replicas:
            assert value.dtype.as_numpy_dtype == total.dtype
            np.testing.assert_array_equal(value, total)  # of two numbers: exact


def test_all_reduce_sums_indexed_slices_beside_tensors():
    strategy = tfdist.MirroredStrategy(["CPU:0", "CPU:1"])

    def rows(replica):
        values = np.arange(6, dtype="float32").reshape(2, 3) + 10 * replica
        return [values, np.array([[0, 4], [4, 4]][replica]), np.float32(replica + 1)]

    @tf.function
    def step():
        def on_replica():
            values, indices, scalar = constants(strategy.replica_id(), rows)
            slices = tf.IndexedSlices(values, indices, tf.constant([5, 3], tf.int64))
            slices, scalar = strategy.communicator().all_reduce([slices, scalar])
            assert isinstance(slices, tf.IndexedSlices)
            return tf.convert_to_tensor(slices), scalar

        return strategy.run(on_replica)

    dense, scalar = step()
    expected = np.zeros((5, 3), "float32")
    for replica in range(N):
        values, indices, _ = rows(replica)
        np.add.at(expected, indices, values)
    for replica in strategy.experimental_local_results(dense):
        np.testing.assert_array_equal(replica, expected)
    assert [float(v) for v in strategy.experimental_local_results(scalar)] == [3.0, 3.0]


def test_a_step_may_communicate_many_times():
    strategy = tfdist.MirroredStrategy(["CPU:0", "CPU:1"])

    @tf.function
    def step():
        def on_replica():
            communicator = strategy.communicator()
            value = tf.cast(strategy.replica_id() + 1, tf.float64)
            for _ in range(5):
                (value,) = communicator.all_reduce([value])
            return value

        return strategy.run(on_replica)

    assert [float(v) for v in strategy.experimental_local_results(step())] == [48.0, 48.0]


def test_the_simulated_communicator_agrees_with_the_real_one():
    from simulated import on_replicas

    def program(communicator):
        return communicator.all_reduce([tf.constant(v) for v in values_of(communicator.replica)])

    expected = [sum(values) for values in zip(*map(values_of, range(N)))]
    for replica in on_replicas(N, program):
        for value, total in zip(replica, expected):
            np.testing.assert_array_equal(value, total)


def test_one_replica_and_no_values_send_nothing():
    # No replica context here: a collective would raise.
    value = tf.constant([1.0, 2.0])
    (same,) = ReplicaCommunicator(1).all_reduce([value])
    assert same is value
    assert ReplicaCommunicator(2).all_reduce([]) == []
    assert ReplicaCommunicator(2).all_gather([]) == []
    (stacked,) = ReplicaCommunicator(1).all_gather([value])
    np.testing.assert_array_equal(stacked, [[1.0, 2.0]])
    (same,) = ReplicaCommunicator(1).all_to_all([value[tf.newaxis]])
    np.testing.assert_array_equal(same, [[1.0, 2.0]])
    (same,) = ReplicaCommunicator(1).group_sum([value], tf.constant([0]))
    assert same is value


# -- gathers, exchanges and sums over groups: through each transport -------------------------


def on_mirrored(program, strategy=None):
    """Calls `program(communicator)` in one graph of two replicas; a list by replica."""
    strategy = strategy or tfdist.MirroredStrategy(["CPU:0", "CPU:1"])

    def step():
        return strategy.run(lambda: program(strategy.communicator()))

    results = tf.function(step, autograph=False)()
    local = [strategy.experimental_local_results(value) for value in results]
    return list(zip(*local))


def on_cross_device_ops(program):
    # The user's own: there is no gather, so that it is a sum.
    ops = tf.distribute.ReductionToOneDevice()
    return on_mirrored(program, tfdist.MirroredStrategy(["CPU:0", "CPU:1"], ops))


def on_ring(program, size=2, graph=True):
    def of_worker(ring):
        communicator = ReplicaCommunicator(size, None, tf.constant(ring.index), ring)
        if not graph:
            return program(communicator)
        return tf.function(lambda: program(communicator), autograph=False)()

    return on_workers(size, of_worker)


TRANSPORTS = {
    "mirrored": (on_mirrored, 2),
    "cross_device_ops": (on_cross_device_ops, 2),
    "ring": (on_ring, 2),
    # Graphs of one process share two threads on two cores: a third one would wait for ever.
    "ring of 3, eagerly": (lambda program: on_ring(program, 3, graph=False), 3),
}
transports = pytest.mark.parametrize(("run", "size"), TRANSPORTS.values(), ids=TRANSPORTS)


def check(results, expected):
    for replica, result in enumerate(results):
        assert not isinstance(result, Exception), result
        collectives.assert_same(result, expected(replica))


def mine(communicator, size, function):
    """This replica's values, in a graph that is the same for all."""
    each = zip(*(function(replica, size) for replica in range(size)))
    return [tf.constant(np.stack(values))[communicator.replica_id] for values in each]


@transports
def test_all_gather_stacks_every_dtype(run, size):
    def program(communicator):
        values = mine(communicator, size, collectives.values)
        gathered = communicator.all_gather(values)
        for one, value in zip(gathered, values):
            assert one.shape == [size, *value.shape] and one.dtype == value.dtype
        return gathered

    check(run(program), lambda replica: collectives.gathered(size))


@transports
def test_all_to_all_gives_each_replica_its_rows(run, size):
    def program(communicator):
        values = mine(communicator, size, collectives.rows)
        swapped = communicator.all_to_all(values)
        for one, value in zip(swapped, values):
            assert one.shape == value.shape and one.dtype == value.dtype
        return swapped

    check(run(program), lambda replica: collectives.swapped(replica, size))


@pytest.mark.parametrize("alone", [True, False], ids=["each alone", "last apart"])
@transports
def test_group_sum_sums_every_dtype_over_the_group(run, size, alone):
    groups = list(range(size)) if alone else [0] * (size - 1) + [size - 2]

    def program(communicator):
        values = mine(communicator, size, collectives.values)
        return communicator.group_sum(values, tf.constant(groups))

    check(run(program), lambda replica: collectives.group_sums(replica, groups))


@transports
def test_nothing_is_gathered_of_nothing(run, size):
    def program(communicator):
        return communicator.all_gather([tf.zeros([0, 3]), tf.zeros([2, 0], tf.int8)])

    expected = [np.zeros((size, 0, 3), "float32"), np.zeros((size, 2, 0), "int8")]
    check(run(program), lambda replica: expected)


FEW = slice(2, None, 7)  # of other dtypes and shapes each


# TensorFlow does not leave the replica context in a condition, as the user's own ops must.
@pytest.mark.parametrize(
    ("run", "size"),
    [TRANSPORTS[name] for name in ("mirrored", "ring")],
    ids=["mirrored", "ring"],
)
def test_in_a_condition(run, size):
    def program(communicator):
        values = mine(communicator, size, collectives.values)[FEW]
        rows = mine(communicator, size, collectives.rows)[FEW]

        def all_of_them():
            return [
                *communicator.all_gather(values),
                *communicator.all_to_all(rows),
                *communicator.group_sum(values, tf.zeros([size], tf.int32)),
            ]

        def none():
            stacked = [tf.zeros([size, *v.shape], v.dtype) for v in values]
            return [*stacked, *map(tf.zeros_like, rows), *map(tf.zeros_like, values)]

        number = tf.cast(values[0], tf.float32)
        return [
            *tf.cond(number >= 0, all_of_them, none),
            *tf.cond(number < 0, all_of_them, none),
        ]

    def expected(replica):
        taken = [
            *collectives.gathered(size)[FEW],
            *collectives.swapped(replica, size)[FEW],
            *collectives.group_sums(replica, [0] * size)[FEW],
        ]
        return [*taken, *map(np.zeros_like, taken)]

    check(run(program), expected)


def test_infinities_and_nans_of_other_groups_stay_there():
    def program(communicator):
        value = tf.switch_case(
            communicator.replica_id,
            [lambda: tf.constant([1.0, 2.0]), lambda: tf.constant([np.nan, np.inf])],
        )
        return communicator.group_sum([value], tf.constant([4, 9]))

    for run in (on_mirrored, on_ring):
        first, second = run(program)
        np.testing.assert_array_equal(first[0], [1.0, 2.0])
        np.testing.assert_array_equal(second[0], [np.nan, np.inf])


def test_what_is_sent_in_a_condition_keeps_its_place():
    # TensorFlow orders the variable's uses, and so what stands between them.
    sent = []

    class Ring:
        index, size = 0, 2

        def all_to_all(self, rows):
            if len(rows[0][0]) == 3:
                time.sleep(0.3)
            sent.append(len(rows[0][0]))
            return rows

    order, steps = tf.Variable(0), tf.Variable(0)
    communicator = ReplicaCommunicator(2, ring=Ring(), order=order)

    @tf.function
    def program():
        def counted():
            steps.assign_add(1)  # a condition with a variable stands in no order of its own
            return communicator.all_gather([tf.ones([3])])

        first = tf.cond(steps < 5, counted, lambda: [tf.ones([2, 3])])
        second = communicator.all_gather([tf.ones([5])])
        return first, second

    program()
    assert sent == [3, 5]


# -- what is counted -------------------------------------------------------------------------


def counted(program):
    """What `program(communicator)` sends, by a `Traffic`: bytes and seconds of each replica."""
    strategy = tfdist.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        counters = [
            tf.Variable(
                tf.zeros([], tf.float64),
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
            )
            for _ in range(2)
        ]

    @tf.function
    def step():
        def on_replica():
            program(strategy.communicator(Traffic(*counters)))
            return tf.zeros([])

        return strategy.run(on_replica)

    step()
    return [[float(part) for part in counter.values] for counter in counters]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda c: c.all_reduce([tf.ones([3, 5]), tf.ones([], tf.float64)]), 60 + 8),
        (lambda c: c.all_gather([tf.ones([3, 5]), tf.ones([7], tf.int8)]), 60 + 7),
        (lambda c: c.all_to_all([tf.ones([2, 5])]), 40),
        (lambda c: c.group_sum([tf.ones([5])], tf.constant([0, 0])), 20),
        (lambda c: [c.all_reduce([tf.ones([5])]) for _ in range(3)], 60),
        (
            lambda c: c.all_reduce(
                [tf.IndexedSlices(tf.ones([4, 2]), tf.zeros([4], tf.int64), tf.constant([9, 2]))]
            ),
            4 * 2 * 4 + 4 * 8 + 2 * 4,
        ),
        (lambda c: c.all_reduce([]), 0),
    ],
    ids=["all_reduce", "all_gather", "all_to_all", "group_sum", "three", "sparse", "nothing"],
)
def test_traffic_counts_the_bytes_of_each_replica(program, expected):
    sent, seconds = counted(program)
    assert sent == [expected, expected]
    assert all(np.isfinite(seconds)) and (min(seconds) > 0) == (expected > 0)


def test_traffic_counts_in_the_branch_that_is_taken():
    def program(communicator):
        for condition in (True, False):
            tf.cond(
                tf.constant(condition),
                lambda: communicator.all_reduce([tf.ones([5])])[0],
                lambda: tf.zeros([5]),
            )

    assert counted(program)[0] == [20, 20]
