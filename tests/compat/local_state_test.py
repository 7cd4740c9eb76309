import keras
import pytest
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable
from upstream import require, require_parameters

from tfdist import compat
from tfdist.compat.local_state import local_state


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require(keras.Variable(0.0), "_value")
    parameters = "self", "trainable", "shape", "dtype", "handle"
    require_parameters(BaseResourceVariable.__init__, *parameters)
    assert context.anonymous_name()


def test_a_metric_counts_for_each_call_alone_wherever_it_is_updated():
    metric, count = keras.metrics.Mean(), keras.Variable(5, dtype="int64", trainable=False)
    variables = list(metric.variables)

    @tf.function(input_signature=[tf.TensorSpec([2])], autograph=False)
    def mean(x):
        zeros = [(v, tf.zeros(v.shape, v.dtype)) for v in variables]
        with local_state([*zeros, (count, tf.constant(7, tf.int64))]):
            metric.update_state(x)
            tf.cond(x[0] > 2.0, lambda: metric.update_state(10.0 * x), lambda: None)
            tf.while_loop(lambda i: i < 3, lambda i: (metric.update_state(x), i + 1)[1:], [0])
            tf.function(lambda: metric.update_state(x), autograph=False)()
            count.assign_add(1)
            return metric.result(), tf.identity(variables[1].value), tf.identity(count.value)

    for _ in range(2):
        assert [float(v) for v in mean(tf.constant([1.0, 3.0]))] == [2.0, 10.0, 8.0]
    # Ten numbers of 3, and two of 30.
    assert [float(v) for v in mean(tf.constant([3.0, 3.0]))] == [7.5, 12.0, 8.0]
    assert [float(v.numpy()) for v in variables] == [0.0, 0.0] and int(count) == 5


def test_an_error_leaves_the_variables_as_they_were():
    variable = keras.Variable(1.0)
    held = variable.value

    @tf.function(autograph=False)
    def fail():
        with local_state([(variable, tf.constant(2.0))]):
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fail()
    assert variable.value is held
