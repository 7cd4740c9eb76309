import numpy as np
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
