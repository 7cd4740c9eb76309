"""Keras variables under a strategy: who assigned them, and how they aggregate.

Needs: `Variable._initialize`, `._direct_assign`, `._map_aggregation` `.__int__`, `.__float__`
and `._value` of Keras' TensorFlow backend, and `_distribute_strategy` and
`_get_on_device_or_primary` of what is in it;
`Variable.assign_add`, `.assign_sub` and `Layer.add_weight` (public, replaced for every
variable and layer), and `RNN._create_state_variables`.
Why: a layer that updates its state in `call` (the moving statistics of
BatchNormalization) updates each replica's own copy, and nothing public tells
which variables were touched. And "only first replica" (the optimizer's
`iterations` and learning rate) makes TensorFlow leave the replica context,
which is not possible inside a condition (loss scaling, gradient accumulation);
every replica computes the same value anyway, so each assigns its own copy. "sum" and
"mean" make it communicate at each assignment; a step of `fit` does that once, at its end
(`sync/layer_state.py`), and assigns each replica's own copy until then. That the user has
passed "none" to `add_weight` is lost in Keras, where it is the default.
"""

import keras
import tensorflow as tf
from keras.layers import RNN, Layer
from keras.src.backend.tensorflow.core import Variable

from tfdist.compat import active_step, graphs, layout
from tfdist.compat.optimizer import applying
from tfdist.compat.replacing import replace
from tfdist.compat.strategy import is_tfdist


def install():
    replace(
        Variable,
        "_initialize",
        _mark_metric_state,
        "a metric's state that is made in a scope",
        "marks it as alike on all workers",
    )
    replace(
        Variable,
        "_direct_assign",
        _note_assignment,
        "in a step, and in a scope",
        "tells the step, and in `fit` assigns this replica's copy; updates a metric's global value",
    )
    replace(
        Variable,
        "_map_aggregation",
        _each_replica_its_own,
        'in the scope of a tfdist strategy, for "only_first_replica"',
        "lets each replica assign its own copy, where all compute the same",
    )
    for method in ("assign_add", "assign_sub"):
        replace(Variable, method, _note_addition, "in a step", "tells the step what is added")
    replace(
        Layer,
        "add_weight",
        _note_none,
        '`aggregation="none"` is passed',
        "marks the variable: in a scope each replica keeps its own",
    )
    replace(
        RNN,
        "_create_state_variables",
        _each_replica_keeps,
        "the layer is stateful",
        "marks its states: in a scope each replica keeps its own",
    )
    for conversion in ("__int__", "__float__"):
        replace(
            Variable,
            conversion,
            _convert_local_value,
            "a scalar that was made in a scope",
            "converts the value of this replica",
        )


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


def was_assigned(value):
    """Whether Keras' `assign` was called on `value`, a distributed variable, outside of steps.

    Since `forget_assigned(value)`, and eagerly; what was assigned may equal what was there.
    """
    return vars(value).get("_tfdist_assigned", False)


def forget_assigned(value):
    """Makes `was_assigned(value)` False until the next assignment."""
    vars(value)["_tfdist_assigned"] = False


def swap_assigned(value, other):
    """Two distributed variables have exchanged their values: what is noted goes with them."""
    notes = was_assigned(value), was_assigned(other)
    vars(other)["_tfdist_assigned"], vars(value)["_tfdist_assigned"] = notes


def _note_none(original):
    def add_weight(self, *args, **kwargs):
        variable = original(self, *args, **kwargs)
        if kwargs.get("aggregation", "mean") in ("none", None):
            layout.mark_own(variable)
        return variable

    return add_weight


def _each_replica_keeps(original):
    def _create_state_variables(self, batch_size):
        original(self, batch_size)
        for variable in keras.tree.flatten(self.states):
            layout.mark_own(variable)

    return _create_state_variables


def is_alike(value):
    """Whether all replicas assign the same `value`, whatever their examples are."""
    return not graphs.depends_on_data(value)


def constant(value):
    """The NumPy value of what is a constant; else None."""
    return graphs.constant(value)


def added_to(variable, value):
    """What `value`, a tensor of a graph, adds to `variable`: a list; None if it is no sum."""
    return graphs.added(value, variable.value)


def first_time(variable, what):
    """Whether this was not asked before of a variable and of `what`, a str."""
    asked = vars(variable).setdefault("_tfdist_asked", set())
    new = what not in asked
    asked.add(what)
    return new


def _is_under_a_strategy(variable):
    """Whether a strategy made the variable in a Keras variable; all have the attribute."""
    return getattr(variable._value, "_distribute_strategy", None) is not None


def _mark_metric_state(original):
    def _initialize(self, value):
        original(self, value)
        layout.pass_on(self)
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


def _note_addition(original):
    def add(self, value):
        step = active_step.current()
        if step is not None and not applying() and not tf.distribute.in_cross_replica_context():
            step.note_addition(self, value)
        return original(self, value)

    return add


def _note_assignment(original):
    def _direct_assign(self, value):
        step = active_step.current()
        if step is None and not tf.inside_function() and _is_under_a_strategy(self):
            vars(self._value)["_tfdist_assigned"] = True
        if tf.distribute.in_cross_replica_context():
            original(self, value)
            copy = global_copy(self)
            if copy is not None:  # reset_state, set_weights
                copy.assign(tf.cast(value, copy.dtype))
            return
        if step is None or applying():
            original(self, value)
        else:
            step.note_assignment(self, value)  # first, since what it was before may be needed
            step.assign(self, value)
        if self.synchronization == "on_read" and _is_under_a_strategy(self):
            vars(self._value)["_tfdist_differs"] = True

    return _direct_assign


def held(variable):
    """The distributed variable in a Keras variable, whatever the precision it is used in."""
    return variable._value


def assign_own(variable, value):
    """Assigns the present replica's copy of a distributed variable, whatever its aggregation."""
    own = getattr(variable, "_get_on_device_or_primary", lambda: variable)()
    own.assign(tf.cast(value, own.dtype))


def _each_replica_its_own(original):
    def _map_aggregation(self, aggregation):
        if aggregation == "only_first_replica" and is_tfdist(tf.distribute.get_strategy()):
            aggregation = "none"
        return original(self, aggregation)

    return _map_aggregation
