import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.merging import merge_by, merge_rule, merged


def state(rule, dtype="float32"):
    variable = keras.Variable(0, trainable=False, dtype=dtype, name="state")
    merge_by(variable, rule)
    return variable


def test_each_rule_and_dtype_in_one_call():
    def joined(values, examples):  # those of replicas that have seen any
        return tf.reduce_sum(tf.where(examples[:, None] > 0, values, 0.0), axis=0)

    variables = [
        state("max"),
        state("min", "int64"),
        state("max", "float16"),
        state(joined),
        state("min"),
    ]
    mine = np.array([[1.0, -7.0], [4.0, np.nan], [-3.0, 0.0]], "float32")  # by replica

    def program(communicator):
        row = tf.constant(mine[communicator.replica])
        values = [row, tf.constant([communicator.replica, -5], tf.int64), tf.cast(row, tf.float16)]
        examples = tf.constant([2, 0, 3][communicator.replica])
        found = merged(variables, [*values, row, row], examples, communicator)
        return [value.numpy() for value in found], communicator.collectives

    for found, collectives in on_replicas(3, program):
        # NumPy's maximum is NaN where any is, too.
        np.testing.assert_array_equal(found[0], mine.max(axis=0))
        np.testing.assert_array_equal(found[1], [0, -5])
        np.testing.assert_array_equal(found[2], mine.max(axis=0).astype("float16"))
        np.testing.assert_array_equal(found[3], mine[0] + mine[2])
        np.testing.assert_array_equal(found[4], mine.min(axis=0))
        assert [value.dtype.name for value in found[1:3]] == ["int64", "float16"]
        assert collectives == ["all_reduce", "all_reduce", "all_gather"]


def test_nothing_is_sent_for_nothing():
    def program(communicator):
        return merged([], [], tf.constant(3), communicator), communicator.collectives

    assert on_replicas(2, program) == [([], []), ([], [])]


def test_the_rule_is_told():
    assert merge_rule(state("max")) == "max"
    assert merge_rule(keras.Variable(0.0)) is None


@pytest.mark.parametrize("rule", ["mean", "maximum", 3, None])
def test_another_rule_is_refused(rule):
    with pytest.raises(ValueError, match='expected "max", "min" or a function'):
        state(rule)


def test_what_is_trained_is_refused():
    with pytest.raises(ValueError, match=r"'weights' is trained.*trainable=False"):
        merge_by(keras.Variable(0.0, name="weights"), "max")
