"""Keras variables under a strategy: who assigned them, and how they aggregate.

Needs: `Variable._initialize`, `._direct_assign`, `._map_aggregation` `.__int__`, `.__float__`
and `._value` of Keras' TensorFlow backend, and `_distribute_strategy` of what is in it.
Why: a layer that updates its state in `call` (the moving statistics of
BatchNormalization) updates each replica's own copy, and nothing public tells
which variables were touched. And "only first replica" (the optimizer's
`iterations` and learning rate) makes TensorFlow leave the replica context,
which is not possible inside a condition (loss scaling, gradient accumulation);
every replica computes the same value anyway, so each assigns its own copy.
"""

import tensorflow as tf
from keras.src.backend.tensorflow.core import Variable

from tfdist.compat import active_step
from tfdist.compat.install import replace
from tfdist.compat.optimizer import applying


def install():
    replace(Variable, "_initialize", _mark_metric_state)
    replace(Variable, "_direct_assign", _note_assignment)
    replace(Variable, "_map_aggregation", _each_replica_its_own)
    for conversion in ("__int__", "__float__"):
        replace(Variable, conversion, _convert_local_value)


def global_copy(variable):
    """The replicated copy of a metric's state that holds its global value, or None.

    Args:
        variable: a Keras variable, or the distributed variable in it.
    """
    value = variable._value if isinstance(variable, Variable) else variable
    # Not getattr: a distributed variable passes unknown names on to its replica.
    return vars(value).get("_tfdist_global_copy")


def set_global_copy(variable, copy):
    """Makes `copy` what `global_copy(variable)` returns."""
    vars(variable._value)["_tfdist_global_copy"] = copy


def differs_between_workers(value):
    """Whether replicas of a step may have given `value`, a distributed variable, other values.

    False for the state of a Keras metric that no step has updated yet.
    """
    return vars(value).get("_tfdist_differs", True)


def _is_under_a_strategy(variable):
    """Whether a strategy made the variable in a Keras variable; all have the attribute."""
    return getattr(variable._value, "_distribute_strategy", None) is not None


def _mark_metric_state(original):
    def _initialize(self, value):
        original(self, value)
        if self.synchronization == "on_read" and _is_under_a_strategy(self):
            vars(self._value)["_tfdist_differs"] = False

    return _initialize


def _convert_local_value(original):
    """`int(optimizer.iterations)`: TensorFlow's replicated variables do not convert."""

    def convert(self):
        if _is_under_a_strategy(self) and self.ndim == 0:
            return (int if original.__name__ == "__int__" else float)(self.numpy())
        return original(self)  # which says of what is no scalar that it is none

    return convert


def _note_assignment(original):
    def _direct_assign(self, value):
        original(self, value)
        if tf.distribute.in_cross_replica_context():
            copy = global_copy(self)
            if copy is not None:  # reset_state, set_weights
                copy.assign(tf.cast(value, copy.dtype))
            return
        if self.synchronization == "on_read" and _is_under_a_strategy(self):
            vars(self._value)["_tfdist_differs"] = True
        step = active_step.current()
        if step is not None and not applying():
            step.note_assignment(self)

    return _direct_assign


def _each_replica_its_own(original):
    def _map_aggregation(self, aggregation):
        if aggregation == "only_first_replica" and getattr(
            tf.distribute.get_strategy(), "is_tfdist", False
        ):
            aggregation = "none"
        return original(self, aggregation)

    return _map_aggregation
