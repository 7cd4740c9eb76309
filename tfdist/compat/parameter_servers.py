"""The engine under `tf.distribute.ParameterServerStrategy`, as tfdist needs it.

Needs: `extended._use_merge_call`, `._update`, `._replica_ctx_update`,
`._create_variable` and `Variable._distribute_strategy`; `ClusterCoordinator._cluster`; and
`Graph._distribution_strategy_stack`.
Why:
- An update must be able to stand in a condition (a step that runs a second time after
  a fault must not be applied again), which merge calls cannot, and it must be one
  piece for each variable, whatever other workers do.
- A variable that a parameter server holds does not tell its strategy.
- A step is one replica's, also where `fit` is called in the scope, and with it traced there.
- A coordinator stops its threads when it is deleted. At the end of a program those
  threads stand still, one of them perhaps with the lock that this needs (it waits for a
  lost worker to come back), and the program would never end.
"""

import contextlib
import ctypes

import tensorflow as tf
from tensorflow.python.distribute.parameter_server_strategy_v2 import (
    ParameterServerStrategyV2Extended,
)

from tfdist.compat.replacing import note

_OF_OURS = "on the `extended` of a `tfdist.ParameterServerStrategy`"

note(
    __name__,
    ParameterServerStrategyV2Extended,
    _OF_OURS,
    _use_merge_call=("always", "is False: an update may stand in a condition"),
    _create_variable=(
        "a variable is made",
        "tells the strategy of it, and the variable of its strategy",
    ),
    **dict.fromkeys(
        ("_update", "_replica_ctx_update"),
        ("a variable is updated", "makes it one piece, under a lock on the variable's server"),
    ),
)
note(
    __name__,
    tf.Graph,
    "on the graph of an asynchronous step, while it is traced",
    _distribution_strategy_stack=("`fit` is called in the scope", "is empty"),
)
note(
    __name__,
    tf.Variable,
    "on a variable of a `tfdist.ParameterServerStrategy`",
    _distribute_strategy=("always", "is that strategy"),
)


def adopt(strategy, on_new_variable, update_in_one_piece):
    """Changes how the engine of `strategy` creates variables and updates them.

    Args:
        strategy: a `tf.distribute.ParameterServerStrategy`.
        on_new_variable: called with each new variable.
        update_in_one_piece: called with a variable and a function that updates it.
    """
    extended = strategy.extended
    create_variable, update = extended._create_variable, extended._update

    def _create_variable(next_creator, **kwargs):
        variable = create_variable(next_creator, **kwargs)
        vars(variable)["_distribute_strategy"] = strategy
        on_new_variable(variable)
        return variable

    def _update(var, fn, args, kwargs, group):
        return update_in_one_piece(var, lambda: update(var, fn, args, kwargs, group))

    def _replica_ctx_update(var, fn, args, kwargs, group):
        fn = tf.autograph.experimental.do_not_convert(fn)
        return _update(var, fn, args, kwargs or {}, group)

    extended._use_merge_call = lambda: False
    extended._create_variable = _create_variable
    extended._update = _update
    extended._replica_ctx_update = _replica_ctx_update


@contextlib.contextmanager
def outside_of_scopes():
    """What is traced inside, in this graph, is traced as if no strategy's scope were open."""
    graph = tf.compat.v1.get_default_graph()
    stack = graph._distribution_strategy_stack
    graph._distribution_strategy_stack = []
    try:
        yield
    finally:
        graph._distribution_strategy_stack = stack


def new_coordinator(strategy):
    """A `ClusterCoordinator` that is never deleted."""
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    for owner in (coordinator, coordinator._cluster):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))
    return coordinator
