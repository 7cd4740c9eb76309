"""How the tail of the step reduces gradients, on replicas that are threads and sum with NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from step_cases import keras_step, known, local, mean, splits

from tfdist.sync.step import KerasStep

OPTIMIZER = object()


@known
@splits
def test_gradients_are_the_mean_over_all_examples(split, known):
    def program(communicator):
        step = keras_step(communicator, split, known)
        # As Keras gives them for an empty batch, or for a stand-in: anything.
        gradient = tf.constant(local(split, communicator.replica))
        first, none, second = step.reduce_gradients(
            [gradient, None, 2.0 * gradient[0, 0]], OPTIMIZER
        )
        assert none is None
        return first, second

    results = on_replicas(len(split), program)
    for first, second in results:
        np.testing.assert_allclose(first, mean(split), rtol=1e-13)
        np.testing.assert_allclose(second, 2 * mean(split)[0, 0], rtol=1e-13)
        np.testing.assert_array_equal(first, results[0][0])  # the same bits on all replicas


@known
@pytest.mark.parametrize("empty", [np.nan, np.inf, 7.0])
def test_what_an_empty_replica_computes_does_not_count(known, empty):
    split = (3, 0, 2)

    def program(communicator):
        step = keras_step(communicator, split, known)
        gradient = tf.constant(local(split, communicator.replica, empty))
        return step.reduce_gradients([gradient], OPTIMIZER)[0]

    for gradient in on_replicas(3, program):
        np.testing.assert_allclose(gradient, mean(split), rtol=1e-13)


@known
def test_a_nan_of_an_example_that_counts_is_not_hidden(known):
    def program(communicator):
        value = np.nan if communicator.replica == 1 else 1.0
        step = keras_step(communicator, (3, 1), known)
        return step.reduce_gradients([tf.constant([value, 2.0])], OPTIMIZER)[0]

    for gradient in on_replicas(2, program):
        np.testing.assert_array_equal(np.isnan(gradient), [True, False])


@known
@splits
def test_sparse_gradients(split, known):
    n = len(split)
    indices = [[0, 2], [2, 2], [5, 0], [1, 2]]

    def program(communicator):
        replica = communicator.replica
        step = keras_step(communicator, split, known)
        slices = tf.IndexedSlices(
            tf.constant(local(split, replica)),
            tf.constant(indices[replica]),
            tf.constant([6, 3], tf.int64),
        )
        gradients = [slices, tf.constant(local(split, replica))]
        sparse, dense = step.reduce_gradients(gradients, OPTIMIZER)
        assert isinstance(sparse, tf.IndexedSlices)
        return tf.convert_to_tensor(sparse), dense

    expected = np.zeros((6, 3))
    for replica in range(n):
        if split[replica]:
            weighed = split[replica] / sum(split) * local(split, replica)
            np.add.at(expected, indices[replica], weighed)
    for sparse, dense in on_replicas(n, program):
        np.testing.assert_allclose(sparse, expected, rtol=1e-13)
        np.testing.assert_allclose(dense, mean(split), rtol=1e-13)


@known
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_does_not_overflow_on_the_way(dtype, known):
    # 60,000 examples times a gradient of 3: far past the 65,504 of float16.
    split = (40_000, 20_000)

    def program(communicator):
        step = keras_step(communicator, split, known)
        value = tf.cast(tf.constant([3.0, 1e-3]) * (communicator.replica + 1), dtype)
        single = tf.constant([3.0], tf.float32)
        half, full = step.reduce_gradients([value, single], OPTIMIZER)
        assert half.dtype == dtype and full.dtype == tf.float32
        return tf.cast(half, tf.float32)

    for gradient in on_replicas(2, program):
        # (2/3) 3 + (1/3) 6 = 4
        np.testing.assert_allclose(
            gradient, [4.0, 4e-3 / 3], rtol=2e-3 if dtype[0] == "f" else 2e-2
        )


def test_gradients_of_several_dtypes_keep_them():
    def program(communicator):
        step = keras_step(communicator, (1, 3))
        values = [tf.cast(communicator.replica * 4, d) for d in ("float32", "float64", "float16")]
        return step.reduce_gradients(values, OPTIMIZER)

    for replica in on_replicas(2, program):
        assert [value.dtype.name for value in replica] == ["float32", "float64", "float16"]
        assert [float(value) for value in replica] == [3.0, 3.0, 3.0]


def test_gradients_go_in_one_call():
    calls = []

    def program(communicator):
        step = keras_step(communicator, (2, 1), known=False)
        step.reduce_gradients([tf.constant(1.0), tf.constant([2.0]), None], OPTIMIZER)
        calls.append(len(communicator.messages))

    on_replicas(2, program)
    assert calls == [1, 1]


def test_one_replica_sends_nothing():
    def program(communicator):
        step = KerasStep(communicator, None, tf.constant(3), None)
        gradients = [tf.constant(1.0), None]
        assert step.reduce_gradients(gradients, OPTIMIZER) is gradients
        assert step.finish({"loss": 1.0}, [], []) == {"loss": 1.0}
        assert float(step.weigh_loss(tf.constant(2.0), OPTIMIZER)) == 2.0
        return communicator.messages

    assert on_replicas(1, program) == [[]]
