"""Keras variables whose state is, for a while, that of one call of a function alone.

Needs: `Variable._value` of Keras' TensorFlow backend, `BaseResourceVariable`, which makes a
variable of a handle, and the name that TensorFlow gives to variables without one.
Why: steps of asynchronous training run at the same time. Each counts its metrics from zero, and
computes with its own number of updates; in the variables on a server they would get mixed
up. A `keras.StatelessScope` would do so for all variables, drops what is assigned in conditions,
loops and inner functions, and has no handles, which optimizers and layers ask for.

Limits: works in a graph. A call that fails leaves its variables in its worker's memory.
"""

import contextlib

import tensorflow as tf
from keras.src.backend.tensorflow.core import Variable
from tensorflow.python.eager import context
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable

from tfdist.compat.replacing import note

note(
    __name__,
    Variable,
    "on metrics' state and optimizers' `iterations`, while an asynchronous step is traced",
    _value=(
        "in a step under a `tfdist.ParameterServerStrategy`",
        "is a variable that lives as long as the step",
    ),
)


@contextlib.contextmanager
def local_state(pairs):
    """Inside, Keras variables are variables that live as long as a call of this graph.

    Args:
        pairs: list of `(Keras variable, tensor)`, the value that it begins with.
    """
    before = [vars(variable)["_value"] for variable, _ in pairs]
    made = [_variable_of_this_call(value) for _, value in pairs]
    for (variable, _), mine in zip(pairs, made):
        vars(variable)["_value"] = mine
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, before):
            vars(variable)["_value"] = value
    for mine in made:
        tf.raw_ops.DestroyResourceOp(resource=mine.handle)


class _LocalVariable(BaseResourceVariable):
    """A variable of a graph, made of its handle."""


def _variable_of_this_call(value):
    value = tf.convert_to_tensor(value)
    handle = tf.raw_ops.VarHandleOp(
        dtype=value.dtype, shape=value.shape, shared_name=context.anonymous_name()
    )
    tf.raw_ops.AssignVariableOp(resource=handle, value=value)
    return _LocalVariable(
        trainable=False,
        shape=value.shape,
        dtype=value.dtype,
        handle=handle,
        handle_name="local_state",
        unique_id=f"local_state_{id(handle)}",
    )
