"""The step that a worker of asynchronous training runs, and what it tells the coordinator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfdist.compat import active_step, autograph
from tfdist.compat import trainer as compat_trainer
from tfdist.compat.layout import is_alike
from tfdist.compat.local_state import local_state
from tfdist.compat.parameter_servers import outside_of_scopes
from tfdist.compat.step_logs import StepLogs, noting_results
from tfdist.strategies.batches import count_examples
from tfdist.strategies.metric_sums import metric_variables
from tfdist.strategies.variables import model_variables, optimizers_of
from tfdist.sync.async_step import AsyncStep

NO_DATA = -2.0  # in the place of the version that a step read


class WorkerStep:
    """A step of `fit` or `evaluate`, traced once for each kind of batch.

    Args:
        model: the Keras model.
        trains: whether it is a step of `fit`.

    Attributes:
        staleness_scaling: whether a stale step's learning rate is lowered.
        layout: the `Layout` of what the function that was asked for last returns.
    """

    def __init__(self, model, trains):
        self._model, self._trains = model, trains
        step = model.train_step if trains else model.test_step
        self._step = compat_trainer.optionals_to_none(model, autograph.convert(step))
        self._traced = {}
        self.layout = None
        self.staleness_scaling = False

    def traced_for(self, spec, batch):
        """The concrete function of a step's number and a batch of `spec`, or like `batch`."""
        if spec is None:
            spec = tf.nest.map_structure(tf.type_spec_from_value, batch)
        return self._traced_once(repr(spec), lambda *args: self._replica_step(*args), spec)

    def traced_for_workers(self, iterators):
        """The concrete function of a step's number and a worker's own iterator.

        Where that has come to its end, `NO_DATA` is in the head of what it returns.
        """

        def next_step(number, iterator):
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
            batch = iterator.get_next_as_optional()

            def nothing():
                head = tf.stack([tf.constant(-1.0), NO_DATA, tf.cast(worker, tf.float32)])
                rest = sum(shape.num_elements() for shape in self.layout.shapes[1:])
                return tf.concat([tf.cast(head, tf.float64), tf.zeros([rest], tf.float64)], axis=0)

            return tf.cond(
                batch.has_value(),
                lambda: self._replica_step(number, batch.get_value(), worker),
                nothing,
            )

        spec = tf.data.IteratorSpec(iterators.element_spec)
        return self._traced_once(f"workers {iterators.element_spec!r}", next_step, spec)

    def _traced_once(self, key, function, spec):
        key = key, self.staleness_scaling
        if key not in self._traced:
            function = tf.function(outside_of_scopes()(function), autograph=False)
            number = tf.TensorSpec([], tf.int64)
            function = function.get_concrete_function(number, spec)
            *known, _ = self.layout
            compute = self.layout.logs.of_values(self.layout.metrics)
            self._traced[key] = function, Layout(*known, compute)
        function, self.layout = self._traced[key]
        return function

    @tf.autograph.experimental.do_not_convert
    def _replica_step(self, number, batch, worker=None):
        """Returns a float64 vector, `Layout` says of what: one message to the coordinator."""
        model = self._model
        metrics, state = metric_variables(model), _layer_state(model)
        if worker is None:
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        versions = _versions(model) if self._trains else []
        with tf.control_dependencies([version for _, version in versions]):
            found = [(v, tf.identity(v.value)) for v in state]
            zeros = [(v, tf.zeros(v.shape, v.dtype)) for v in metrics]
        step = AsyncStep(
            number,
            count_examples(batch),
            model.distribute_strategy.updates,
            versions,
            self.staleness_scaling,
            model.distribute_strategy.before_update(model),
        )
        with local_state(zeros + found), noting_results(model.metrics):
            with active_step.activate(step):
                logs = self._step(batch)
                step.take_logs(logs, metrics, model_variables(model))
            sums = [tf.identity(v.value) for v in metrics]
            changes = step.changes(found)
        step.carry_over(changes)
        head = tf.stack([tf.cast(v, tf.float64) for v in (step.version, step.read_version, worker)])
        values = [head, *(tf.cast(v, tf.float64) for v in (*sums, *_leaves(logs)))]
        structure = tf.nest.map_structure(lambda value: None, logs)
        self.layout = Layout(metrics, structure, step.logs, [v.shape for v in values], None)
        return tf.concat([tf.reshape(v, [-1]) for v in values], axis=0)


class Layout(NamedTuple):
    """What a step returns in one vector: version, version that it read, worker; metrics; logs.

    Attributes:
        metrics: list of the metrics' variables.
        structure: that of the logs.
        logs: the `StepLogs` of them.
        shapes: list of `tf.TensorShape`s, of the head and of all of them.
        compute: function of the metrics' values: the logs that follow from them, by places.
    """

    metrics: list
    structure: Any
    logs: StepLogs
    shapes: list
    compute: Callable

    def split(self, vector):
        """The arrays in `vector`."""
        ends = np.cumsum([shape.num_elements() for shape in self.shapes])
        parts = np.split(vector, ends[:-1])
        return [part.reshape(shape.as_list()) for part, shape in zip(parts, self.shapes)]


def _layer_state(model):
    """What layers may assign, of which each step has its own."""
    every = model.non_trainable_variables
    return [v for v in every if is_alike(v) and v.synchronization != "on_read"]


def _versions(model):
    """Pairs of each optimizer that a step may apply and its version."""
    return [
        (optimizer, tf.cast(optimizer.iterations.value.read_value(), tf.int64))
        for _, optimizer in optimizers_of(model).items()
    ]


def _leaves(logs):
    return [tf.convert_to_tensor(value) for value in tf.nest.flatten(logs)]
