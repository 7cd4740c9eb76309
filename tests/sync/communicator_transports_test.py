"""Gathers, exchanges and sums over groups, through each transport."""

import time

import collectives
import devices
import numpy as np
import pytest
import tensorflow as tf
from rings import on_workers

import tfdist
from tfdist.sync.communicator import ReplicaCommunicator


def on_mirrored(program, strategy=None):
    """Calls `program(communicator)` in one graph of two replicas; a list by replica."""
    strategy = strategy or tfdist.MirroredStrategy(devices.PAIR)

    def step():
        return strategy.run(lambda: program(strategy.communicator()))

    results = tf.function(step, autograph=False)()
    local = [strategy.experimental_local_results(value) for value in results]
    return list(zip(*local))


def on_cross_device_ops(program):
    # The user's own: there is no gather, so that it is a sum.
    ops = tf.distribute.ReductionToOneDevice()
    return on_mirrored(program, tfdist.MirroredStrategy(devices.PAIR, ops))


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


@pytest.mark.parametrize("op", ["max", "min"])
@transports
def test_all_reduce_finds_the_extremes_of_every_dtype(run, size, op):
    def program(communicator):
        values = mine(communicator, size, collectives.extreme_values)
        extremes = communicator.all_reduce(values, op)
        for one, value in zip(extremes, values):
            assert one.shape == value.shape and one.dtype == value.dtype
        return extremes

    results = run(program)
    check(results, lambda replica: collectives.extremes(size, op))
    for values in zip(*results):
        assert len({np.asarray(value.numpy()).tobytes() for value in values}) == 1


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
                *communicator.all_reduce(values, "max"),
            ]

        def none():
            stacked = [tf.zeros([size, *v.shape], v.dtype) for v in values]
            return [*stacked, *map(tf.zeros_like, [*rows, *values, *values])]

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
            *[stacked.max(axis=0) for stacked in collectives.gathered(size)[FEW]],
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
