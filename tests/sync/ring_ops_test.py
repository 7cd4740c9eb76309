import collectives
import numpy as np
import pytest
import tensorflow as tf
from rings import on_workers

from tfdist.sync import ring_ops


def inputs(worker):
    rows = np.arange(6, dtype="float32").reshape(2, 3)[: worker + 1] + 10 * worker
    slices = tf.IndexedSlices(rows, np.array([0, 4])[: worker + 1], tf.constant([5, 3], tf.int64))
    return [tf.fill([2], 1.0 + worker), tf.constant(worker, tf.int64), slices]


def check(results):
    for vector, scalar, slices in results:
        np.testing.assert_array_equal(vector, [3.0, 3.0])
        assert int(scalar) == 1
        dense = np.zeros((5, 3), "float32")
        dense[0] = np.arange(3) + np.arange(3) + 10
        dense[4] = np.arange(3, 6) + 10
        np.testing.assert_array_equal(slices, dense)


def test_sums_in_a_graph():
    def program(ring):
        @tf.function
        def step():
            vector, scalar, slices = ring_ops.all_reduce(ring, inputs(ring.index))
            assert vector.shape == [2] and scalar.shape == []
            assert slices.values.shape.as_list() == [None, 3]
            return vector, scalar, tf.convert_to_tensor(slices)

        return step()

    check(on_workers(2, program))


def test_sums_eagerly():
    def program(ring):
        *dense, slices = ring_ops.all_reduce(ring, inputs(ring.index))
        return *dense, tf.convert_to_tensor(slices)

    check(on_workers(2, program))


def test_calls_of_a_graph_keep_the_order_of_the_program():
    # Otherwise the workers' calls would not match, and the ring would say so.
    def program(ring):
        @tf.function
        def step(x):
            results = [ring_ops.all_reduce(ring, [x[:n]])[0] for n in range(1, 20)]
            x = tf.while_loop(
                lambda n, x: n < 3,
                lambda n, x: (n + 1, ring_ops.all_reduce(ring, [x])[0]),
                (0, x),
            )[1]
            return x, results

        return step(tf.ones(20))

    for x, results in on_workers(2, program):
        np.testing.assert_array_equal(x, np.full(20, 8.0))
        for n, result in enumerate(results, 1):
            np.testing.assert_array_equal(result, np.full(n, 2.0))


# -- gathers, exchanges and sums over groups, of one dtype a call ------------------------------


def of_dtype(arrays, dtype):
    return [array for array in arrays if array.dtype == dtype]


@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eagerly"])
@pytest.mark.parametrize("dtype", collectives.DTYPES.values(), ids=collectives.DTYPES)
def test_every_dtype(dtype, graph):
    def program(ring):
        def step():
            values = of_dtype(collectives.values(ring.index, 2), dtype)
            rows = of_dtype(collectives.rows(ring.index, 2), dtype)
            values, rows = [[tf.constant(v) for v in each] for each in (values, rows)]
            return (
                ring_ops.all_gather(ring, values),
                ring_ops.all_to_all(ring, rows),
                ring_ops.group_sum(ring, values, tf.constant([3, 3])),
                ring_ops.group_sum(ring, values, tf.constant([1, 0])),
                ring_ops.all_reduce(ring, values),
            )

        return (tf.function(step) if graph else step)()

    for worker, results in enumerate(on_workers(2, program)):
        assert not isinstance(results, Exception), results
        expected = (
            collectives.gathered(2),
            collectives.swapped(worker, 2),
            collectives.group_sums(worker, [0, 0]),
            collectives.values(worker, 2),
            collectives.group_sums(worker, [0, 0]),
        )
        for found, wanted in zip(results, expected):
            collectives.assert_same(found, of_dtype(wanted, dtype))


@pytest.mark.parametrize("size", [3, 4])
def test_groups_of_some_workers(size):
    groups = [5, 2, 5, 2][:size]

    def program(ring):
        values = collectives.values(ring.index, size)
        values = [tf.constant(v) for v in of_dtype(values, np.float32)]
        return ring_ops.group_sum(ring, values, tf.constant(groups))

    for worker, sums in enumerate(on_workers(size, program)):
        expected = collectives.group_sums(worker, groups)
        collectives.assert_same(sums, of_dtype(expected, np.float32))
