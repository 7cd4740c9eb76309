"""The step that a worker of asynchronous training runs, and what it tells the coordinator."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import active_step, autograph
from tfdist.compat import trainer as compat_trainer
from tfdist.strategies.batches import count_examples
from tfdist.strategies.metric_sums import metric_variables
from tfdist.sync.staleness import AsyncStep

NO_DATA = -2.0  # in the place of the version that a step read


class WorkerStep:
    """A step of `fit` or `evaluate`, traced once for each kind of batch.

    Args:
        model: the Keras model.
        trains: whether it is a step of `fit`.

    Attributes:
        claim: what `ParameterServerStrategy.claim_of` returned for the model's optimizer;
            None in `evaluate`.
        staleness_scaling: whether a stale step's learning rate is lowered.
        layout: the `Layout` of what the function that was asked for last returns.
    """

    def __init__(self, model, trains):
        self._model, self._trains = model, trains
        step = model.train_step if trains else model.test_step
        self._step = compat_trainer.optionals_to_none(model, autograph.convert(step))
        self._traced = {}
        self.claim = self.layout = None
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
            function = tf.function(function, autograph=False)
            number = tf.TensorSpec([], tf.int64)
            self._traced[key] = function.get_concrete_function(number, spec), self.layout
        function, self.layout = self._traced[key]
        return function

    @tf.autograph.experimental.do_not_convert
    def _replica_step(self, number, batch, worker=None):
        """Returns a float64 vector, `Layout` says of what: one message to the coordinator."""
        model = self._model
        metrics = metric_variables(model)
        averaged = [v for v in model.non_trainable_variables if _is_float(v)]
        if worker is None:
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        version = tf.constant(-1, tf.int64)
        if self._trains:
            version = tf.cast(model.optimizer.iterations.value.read_value(), tf.int64)
        with tf.control_dependencies([version]):
            before = [tf.identity(v.value) for v in averaged]
            zeros = [tf.zeros(v.shape, v.dtype) for v in metrics]
            scaling = self.staleness_scaling
            step = AsyncStep(number, count_examples(batch), version, self.claim, scaling)
            known = [*zip(metrics, zeros), *zip(averaged, before)]
            with keras.StatelessScope(state_mapping=known) as scope, active_step.activate(step):
                logs = self._step(batch)
        if self._trains:
            for variable, old in zip(averaged, before):
                new = scope.get_current_value(variable)
                if new is not old:
                    variable.value.assign_add(new - old)
        logs = logs if isinstance(logs, dict) else {}
        logs = {name: value for name, value in logs.items() if name not in _names(model)}
        sums = [scope.get_current_value(v) for v in metrics]
        head = tf.stack([tf.cast(v, tf.float64) for v in (step.version, version, worker)])
        values = [head, *(tf.cast(v, tf.float64) for v in (*sums, *logs.values()))]
        self.layout = Layout(metrics, list(logs), [v.shape for v in values])
        return tf.concat([tf.reshape(v, [-1]) for v in values], axis=0)


class Layout(NamedTuple):
    """What a step returns in one vector: version, version that it read, worker; metrics; logs.

    Attributes:
        metrics: list of the metrics' variables.
        logs: list of the names of what the step logs besides.
        shapes: list of `tf.TensorShape`s, of the head and of all of them.
    """

    metrics: list
    logs: list
    shapes: list

    def split(self, vector):
        """The arrays in `vector`."""
        ends = np.cumsum([shape.num_elements() for shape in self.shapes])
        parts = np.split(vector, ends[:-1])
        return [part.reshape(shape.as_list()) for part, shape in zip(parts, self.shapes)]


def _names(model):
    return set(model.get_metrics_result()) if model.metrics else set()


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)
