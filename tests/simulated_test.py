"""The communicator of simulated replicas: what the oracle tests stand on."""

import collectives
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

DTYPES = ["float16", ml_dtypes.bfloat16, "float32", "float64", "int8", "uint8", "int32", "int64"]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_dtype
def test_all_gather_is_in_the_order_of_the_replicas(dtype):
    def program(communicator):
        own = np.full((2, 3), communicator.replica + 1).astype(dtype)
        return communicator.all_gather([tf.constant(own), tf.constant(own[0])])

    for both, first_row in on_replicas(3, program):
        assert both.dtype == tf.as_dtype(dtype)
        np.testing.assert_array_equal(both, np.full((3, 2, 3), [[[1]], [[2]], [[3]]], dtype))
        np.testing.assert_array_equal(first_row, np.full((3, 3), [[1], [2], [3]], dtype))


@every_dtype
def test_all_to_all_is_the_transpose(dtype):
    def program(communicator):
        own = (10 * communicator.replica + np.arange(3)).astype(dtype)
        (received,) = communicator.all_to_all([tf.constant(np.stack([own, own], axis=1))])
        return received

    for replica, received in enumerate(on_replicas(3, program)):
        assert received.dtype == tf.as_dtype(dtype)
        expected = np.array([0, 10, 20]) + replica
        np.testing.assert_array_equal(received, np.stack([expected, expected], 1).astype(dtype))


@pytest.mark.parametrize("op", ["max", "min"])
def test_all_reduce_finds_extremes(op):
    def program(communicator):
        own = collectives.extreme_values(communicator.replica, 3)
        return communicator.all_reduce([tf.constant(value) for value in own], op)

    for found in on_replicas(3, program):
        collectives.assert_same(found, collectives.extremes(3, op))


def test_replica_ids_and_what_was_sent():
    def program(communicator):
        assert communicator.replica_id.dtype == tf.int32
        assert communicator.replica_id == communicator.replica
        communicator.all_reduce([tf.zeros([5]), tf.zeros([3])])
        communicator.all_gather([tf.zeros([7], tf.uint8)])
        communicator.all_to_all([tf.zeros([4, 2], tf.float16)])
        return communicator

    for communicator in on_replicas(4, program):
        assert communicator.collectives == ["all_reduce", "all_gather", "all_to_all"]
        assert communicator.messages == [["float32", "float32"], ["uint8"], ["float16"]]
        assert communicator.bytes_sent == 2 * 3 / 4 * 32 + 3 * 7 + 3 / 4 * 16
