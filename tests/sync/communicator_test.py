"""Sums over the replicas of one process, and what a single replica sends."""

import devices
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.sync.communicator import ReplicaCommunicator

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
    strategy = tfdist.MirroredStrategy(devices.PAIR)

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
    strategy = tfdist.MirroredStrategy(devices.PAIR)

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
    strategy = tfdist.MirroredStrategy(devices.PAIR)

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
    (same,) = ReplicaCommunicator(1).all_reduce([value], "max")
    assert same is value
    assert ReplicaCommunicator(2).all_reduce([]) == []
    assert ReplicaCommunicator(2).all_reduce([], "min") == []
    assert ReplicaCommunicator(2).all_gather([]) == []
    (stacked,) = ReplicaCommunicator(1).all_gather([value])
    np.testing.assert_array_equal(stacked, [[1.0, 2.0]])
    (same,) = ReplicaCommunicator(1).all_to_all([value[tf.newaxis]])
    np.testing.assert_array_equal(same, [[1.0, 2.0]])
    (same,) = ReplicaCommunicator(1).group_sum([value], tf.constant([0]))
    assert same is value


def test_another_reduction_is_refused_before_anything_is_sent():
    with pytest.raises(ValueError, match='op=\'mean\': expected "sum", "max" or "min"'):
        ReplicaCommunicator(2).all_reduce([tf.ones([2])], "mean")
    slices = tf.IndexedSlices(tf.ones([1, 2]), [3])
    with pytest.raises(TypeError, match=r"IndexedSlices.*convert_to_tensor"):
        ReplicaCommunicator(2).all_reduce([slices], "max")
