"""Variables that keep their constraint, whoever assigns them.

Keras applies a constraint behind the optimizer's update. A gradient-sync algorithm assigns
variables behind that: a mean of models on a sphere lies inside of it.
"""

import tensorflow as tf


class ConstrainedVariable:
    """A `tf.Variable` that is assigned what its constraint makes of a value.

    Args:
        variable: the variable.
        constraint: function of a tensor, such as a `keras.constraints.Constraint`.

    Example:

    >>> import keras
    >>> variable = ConstrainedVariable(tf.Variable([3.0, -4.0]), keras.constraints.NonNeg())
    >>> variable.assign([1.0, -2.0])
    >>> tf.convert_to_tensor(variable).numpy().tolist()
    [1.0, 0.0]
    """

    def __init__(self, variable, constraint):
        self._variable, self._constraint = variable, constraint

    def __getattr__(self, name):  # shape, dtype
        return getattr(self._variable, name)

    def __tf_tensor__(self, dtype=None, name=None):
        return tf.convert_to_tensor(self._variable, dtype, name=name)

    def assign(self, value):
        """Assigns the value that the constraint makes of `value`."""
        value = tf.convert_to_tensor(value, self._variable.dtype)
        self._variable.assign(tf.cast(self._constraint(value), self._variable.dtype))


def constrained(variables):
    """The `tf.Variable`s in Keras variables; those with a constraint keep it.

    Args:
        variables: list of Keras variables.
    """
    return [
        v.value if v.constraint is None else ConstrainedVariable(v.value, v.constraint)
        for v in variables
    ]
