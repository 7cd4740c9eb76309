"""Which logs of a step are its metrics' results, and what they are on the global batch.

Needs: `result` of every metric (public, replaced on the instance while a step is traced),
and the graph of the step (`compat.graphs`).
Why: a replica's metric holds the replica's sums, so what a step returns of its metrics must
be computed again from the sums of all. A name in the logs says nothing of it: a train step of
the user's own may call anything "loss", keep a metric's result under another key or in a
nested structure, or log twice a metric's result.

Limits: with `run_eagerly=True` results are found as they are; what was computed from them
is averaged over replicas, like any other log, with a warning.
"""

import contextlib
import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfdist.compat import active_step, graphs
from tfdist.compat.replacing import note

note(
    __name__,
    keras.metrics.Metric,
    "on a metric, while a step is traced",
    result=(
        "in a step of `fit` or `evaluate`",
        "notes the value, so that it is computed again from all replicas' sums",
    ),
)


@contextlib.contextmanager
def noting_results(metrics):
    """Metrics whose `result` is called inside tell the step that is being traced.

    Args:
        metrics: list of Keras metrics; those inside of them are looked for, too.
    """
    metrics = _with_inner(metrics)
    before = [vars(metric).get("result") for metric in metrics]
    for metric in metrics:
        vars(metric)["result"] = functools.partial(_noted, metric, metric.result)
    try:
        yield
    finally:
        for metric, own in zip(metrics, before):
            if own is None:
                del vars(metric)["result"]
            else:
                vars(metric)["result"] = own


def _with_inner(metrics):
    found, waiting = {}, list(metrics)
    while waiting:
        metric = waiting.pop()
        if id(metric) not in found:
            found[id(metric)] = metric
            waiting += getattr(metric, "metrics", None) or []  # what `compile` was given
    return list(found.values())


def _noted(metric, result):
    value = result()
    step = active_step.current()
    if step is not None:
        step.note_result(metric, result, value)
    return value


class MetricsOfStep:
    """What a replica's step does with metrics, in the order in which it does it."""

    def __init__(self):
        self._results = []  # of `_Result`s
        self._assigned = {}  # id of a metric's variable -> (time, position in its graph)
        self._time = 0
        self.variables = {}  # those of metrics that were assigned, by id

    def note_result(self, metric, compute, value):
        """`compute()`, a metric's own `result`, gave `value`."""
        self._time += 1
        self._results += [
            _Result(metric, compute, place, part, self._time)
            for place, part in enumerate(keras.tree.flatten(value))
        ]

    def note_assignment(self, variable):
        """The state of a metric was assigned: what was read of it before is its old value."""
        self._time += 1
        where = None if tf.executing_eagerly() else graphs.position()
        self._assigned[id(variable)] = self._time, where
        self.variables[id(variable)] = variable

    def last_results(self):
        """The results that are up to date, by the ids of their values."""
        return {id(result.value): result for result in self._results if not self._is_old(result)}

    def _is_old(self, result):
        changed = (self._assigned.get(id(v), (0,))[0] for v in result.metric.variables)
        return any(time > result.time for time in changed)

    def is_last_read(self, operation, variable):
        """Whether `operation` reads the metric's `variable` behind its last assignment."""
        _, where = self._assigned.get(id(variable), (0, None))
        return where is None or graphs.is_behind(operation, where)


class StepLogs:
    """The logs of one replica's step, taken apart.

    Args:
        logs: what the step returned, any structure of tensors and numbers.
        metrics: the `MetricsOfStep`.
        metric_variables: list of the metrics' variables.
        alike: list of variables that all replicas hold alike at this moment.

    Attributes:
        extras: list of tensors that `on_global_metrics` needs; they must leave the function
            in which the step was traced with the logs.
        derived: set of the places (of flat logs) that are computed from metrics.
        alike: set of the places that are the same on all replicas.
    """

    def __init__(self, logs, metrics, metric_variables, alike):
        self._metrics, self._results = metrics, metrics.last_results()
        self._of_metrics = _by_handle(metric_variables)
        self._of_all = _by_handle(alike)
        self._derivations, self.extras, self.alike = {}, [], set()
        take_apart = self._find_result if tf.executing_eagerly() else self._take_apart
        names = sorted(logs) if isinstance(logs, dict) else []
        for place, value in enumerate(tf.nest.flatten(logs)):
            take_apart(place, value, names[place] if place < len(names) else None)
        self.derived = set(self._derivations)
        if tf.executing_eagerly() and len(self.derived) < len(tf.nest.flatten(logs)):
            self._warn_of_results_that_are_not_logged()
        self._structure = tf.nest.map_structure(lambda value: None, logs)

    def is_of(self, logs):
        """Whether `logs` have the structure of these."""
        try:
            tf.nest.assert_same_structure(self._structure, logs, check_types=False)
        except (ValueError, TypeError):
            return False
        return True

    def _find_result(self, place, value, name):
        """Outside of a graph. Keras makes Python numbers of results there."""
        found = self._results.get(id(value))
        if found is None and isinstance(value, float):
            same = [r for r in self._results.values() if _equal(r.value, value)]
            named = [r for r in same if r.metric.name == name]
            found = next(iter(named or same), None)
        if found is not None:
            self._derivations[place] = _Derived([found], [], lambda values, extras: values[found])

    def _warn_of_results_that_are_not_logged(self):
        leaves = [leaf for derived in self._derivations.values() for leaf in derived.leaves]
        logged = {id(leaf.metric) for leaf in leaves}
        results = [r for r in self._results.values() if id(r.metric) not in logged]
        used = sorted({result.metric.name for result in results})
        if used:
            warnings.warn(
                f"A step with `run_eagerly=True` asked for the results of {', '.join(used)} and "
                "logs them not as they are. A log that is computed from a metric's result is "
                "averaged over replicas here, which is not what one process logs; without "
                "`run_eagerly=True` it is computed from the metric of all replicas.",
                stacklevel=2,
            )

    def _take_apart(self, place, value, name):
        if not isinstance(value, tf.Tensor):
            self.alike.add(place)  # a Python number
            return
        derivation = graphs.Derivation(value, self._leaf, self._is_alike)
        if not derivation.is_complete:
            return
        if not derivation.leaves:
            self.alike.add(place)
            return
        self._derivations[place] = _Derived(
            list(derivation.leaves), derivation.extras, derivation.compute
        )
        self.extras += derivation.extras

    def _leaf(self, tensor):
        if id(tensor) in self._results:
            return self._results[id(tensor)]
        variable = self._of_metrics.get(graphs.read_handle(tensor.op))
        if variable is None or not self._metrics.is_last_read(tensor.op, variable):
            return None
        return _Read(variable)

    def _is_alike(self, operation):
        return graphs.read_handle(operation) in self._of_all

    def on_global_metrics(self, pairs, extras):
        """The logs that are computed from metrics, of the global batch.

        Args:
            pairs: list of `(metric variable, its sum over all replicas)`.
            extras: list of the values of `self.extras`.

        Returns:
            A dict of tensors by their places.
        """
        with keras.StatelessScope(state_mapping=pairs):
            return self._compute(list(extras))

    def of_present_metrics(self):
        """The same where metrics hold their global values; outside of steps and graphs."""
        extras = self._present_extras()
        # A graph, since what is computed from metrics is known as a part of one.
        function = tf.function(lambda: self._compute(extras), autograph=False)
        return function.get_concrete_function()()

    def of_values(self, variables):
        """A function that computes them from other values of the metrics' state.

        Args:
            variables: list of Keras variables.

        Returns:
            A concrete function of the list of their values, which returns what
            `on_global_metrics` does.
        """
        extras = self._present_extras()

        def compute(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return self._compute(list(extras))

        specs = [tf.TensorSpec(v.shape, v.dtype) for v in variables]
        return tf.function(compute, autograph=False).get_concrete_function(specs)

    def _present_extras(self):
        return [self._of_all[graphs.read_handle(t.op)].value for t in self.extras]

    def _compute(self, extras):
        found = {}
        for place, derived in self._derivations.items():
            mine, extras = extras[: len(derived.extras)], extras[len(derived.extras) :]
            values = {leaf: leaf.compute_again() for leaf in derived.leaves}
            found[place] = derived.compute(values, mine)
        return found


class _Derived(NamedTuple):
    """A log as a function of metrics.

    Attributes:
        leaves: list of what of metrics it is computed from.
        extras: list of other tensors that it is computed from.
        compute: function of a dict of values by leaves and of the values of `extras`.
    """

    leaves: list
    extras: list
    compute: Callable


def _by_handle(variables):
    return {handle: v for v in variables for handle in graphs.handles_of(v.value)}


class _Read:
    """The value of a metric's variable."""

    def __init__(self, variable):
        self._variable = variable

    def compute_again(self):
        return tf.convert_to_tensor(self._variable.value)

    def __hash__(self):
        return id(self._variable)

    def __eq__(self, other):
        return isinstance(other, _Read) and other._variable is self._variable


class _Result:
    """What a metric's `result` gave; of several values one."""

    def __init__(self, metric, compute, place, value, time):
        self.metric, self.value, self.time = metric, value, time
        self._compute, self._place = compute, place

    def compute_again(self):
        return keras.tree.flatten(self._compute())[self._place]


def _equal(value, number):
    return isinstance(value, tf.Tensor) and value.shape.rank == 0 and float(value) == number
