import pytest
import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.autograph.impl import api
from upstream import require, require_parameters

from tfdist.compat import autograph


def test_upstream():
    require(api, "tf_convert")
    require_parameters(api.tf_convert, "f", "ctx", "convert_by_default")
    require(ag_ctx, "control_status_ctx")


def absolute(x):
    if x < 0:  # of a tensor: needs AutoGraph
        x = -x
    return x


def call_converted(x):
    converted = autograph.convert(absolute)

    @tf.autograph.experimental.do_not_convert
    def ours(x):
        return converted(x)

    return ours(x)


def test_a_function_inside_of_ours_is_converted_as_its_surroundings_are():
    assert float(tf.function(call_converted)(tf.constant(-2.0))) == 2.0
    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(call_converted, autograph=False)(tf.constant(-2.0))


def test_without_the_conversion_it_would_fail():
    @tf.autograph.experimental.do_not_convert
    def ours(x):
        return absolute(x)

    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError):
        tf.function(ours)(tf.constant(-2.0))


def test_eagerly_it_is_the_function():
    assert autograph.convert(absolute)(-3) == 3
