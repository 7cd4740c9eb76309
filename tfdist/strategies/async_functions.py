"""The functions that `fit`, `evaluate` and `predict` call under parameter servers.

Each takes the next batch from its iterator and hands it out as a step to whichever
worker is free; it does not wait for that step. So a call of the train function returns
when there is room for another step, with the logs of the steps that are done; where
the steps of an epoch end, `finish` waits for the rest.

A step begins with metrics at zero and returns what it added to them; the coordinator
sums that up. So metrics are exact: no two workers write them, and a step that ran
twice, because its worker was lost, is counted once.
"""

import time
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import active_step, autograph, epoch_iterator
from tfdist.compat import trainer as compat_trainer
from tfdist.strategies import checks
from tfdist.strategies.keras_functions import count_examples, metric_variables
from tfdist.strategies.outstanding import Outstanding
from tfdist.strategies.worker_datasets import WorkerIterators
from tfdist.sync.staleness import Asynchrony, AsyncStep, StalenessBound, StalenessLog

STEPS_A_WORKER = 2  # out at once: one runs, one waits
_LOGS_S = 0.1  # how often the logs in the middle of an epoch are computed anew
_IDLE_S = 0.01  # before another step is tried where a worker had no data
_NO_DATA = -2.0  # in the place of the version that a step read


def make_function(strategy, model, kind):
    """What `model` calls with an iterator; `kind` is "train", "test" or "predict"."""
    if kind == "predict":
        return Predictions(strategy, model)
    return Steps(strategy, model, kind)


class Steps:
    """Hands the steps of `fit` or `evaluate` out to workers.

    Args:
        strategy: the `ParameterServerStrategy`.
        model: the Keras model.
        kind: "train" or "test".
    """

    def __init__(self, strategy, model, kind):
        self._strategy, self._model = strategy, model
        self._trains = kind == "train"
        step = model.train_step if self._trains else model.test_step
        self._step = compat_trainer.optionals_to_none(model, autograph.convert(step))
        self._traced = {}
        self._layout = self._claim = None
        self._ever_ran = False
        self.is_active = False  # whether steps have been handed out since `finish`
        self._begin_call()

    def _begin_call(self):
        self._asynchrony = self._strategy.asynchrony if self._trains else Asynchrony()
        self._bound = StalenessBound(self._asynchrony.max_staleness)
        self._out = Outstanding(self._strategy)
        self._iterators = None  # the workers', where they read for themselves
        self._begin_epoch()

    def _begin_epoch(self):
        self._staleness, self._owed = StalenessLog(self._asynchrony.histogram), 0
        self._logs, self._shown, self._shown_at = {}, {}, -_LOGS_S
        self._forget_sums()

    def _forget_sums(self):
        self._sums, self._sums_before = {}, None

    def __call__(self, iterator):
        model, strategy = self._model, self._strategy
        if strategy.next_call is not None or not self._ever_ran:
            strategy.next_call = None
            _check(model, self._trains)
            self._claim = strategy.claim_of(model.optimizer) if self._trains else None
            self._begin_call()
        self.is_active = True
        if isinstance(iterator, WorkerIterators):
            self._step_of_workers(iterator)
        else:
            self._steps_of_batches(iterator)
        self._ever_ran = True
        return self._present_logs()

    # -- batches that the coordinator reads ---------------------------------------

    def _steps_of_batches(self, iterator):
        spec, done = getattr(iterator, "element_spec", None), 0
        for _ in range(self._model.steps_per_execution):
            try:
                batch = next(iterator)
            except StopIteration:
                break
            self._wait_for_room()
            self._hand_out(self._traced_for(spec, batch), batch)
            done += 1
        if not done:
            read_before = self._ever_ran or epoch_iterator.was_read(iterator)
            raise StopIteration if read_before else checks.empty_dataset()
        for result in self._out.those_done():
            self._take(result)
        if not isinstance(iterator, tf.data.Iterator):  # `train_on_batch`
            self.settle()

    def _has_room(self):
        room = STEPS_A_WORKER * len(self._strategy.cluster.workers)
        return len(self._out) < room and self._bound.may_hand_out()

    def _wait_for_room(self):
        while not self._has_room():
            self._take(self._out.next())

    def _hand_out(self, function, argument):
        self._bound.hand_out(self._out.hand_out(function, argument))

    def _take(self, result):
        """Counts a step in; returns its worker's index if it found no data, else None."""
        number, vector = result
        self._bound.finish(number)
        (version, read_version, worker), *values = self._layout.split(vector)
        if read_version == _NO_DATA:
            return int(worker)
        if version >= 0:
            self._staleness.add(int(version - read_version))
        for place, value in enumerate(values[: len(self._layout.metrics)]):
            self._sums[place] = self._sums.get(place, 0) + value
        self._logs = dict(zip(self._layout.logs, values[len(self._layout.metrics) :]))
        return None

    # -- batches that workers read ------------------------------------------------

    def _step_of_workers(self, iterators):
        """Hands out one more step; where their number is not known, waits for one with data.

        A step may find its worker's data at an end. Another is handed out in its place
        as long as other workers have some.
        """
        self._iterators, counts = iterators, iterators.batches is not None
        self._owed += 1
        while not iterators.all_ended():
            self._pay(iterators)
            if counts and not self._owed:
                return
            if self._take_from(iterators) and not counts:
                self._owed = 0  # it was this call's
                return
        while len(self._out):
            if self._take_from(iterators) and not counts:
                return
        raise StopIteration

    def _pay(self, iterators):
        function = self._traced_for_workers(iterators)
        while (self._owed or iterators.batches is None) and self._has_room():
            self._hand_out(function, iterators.remote)
            self._owed = max(0, self._owed - 1)

    def _take_from(self, iterators):
        """Takes the next step; returns whether it had data."""
        worker = self._take(self._out.next())
        if worker is None:
            return True
        iterators.ended.add(worker)
        self._owed += 1
        time.sleep(_IDLE_S)  # or it would ask again at once
        return False

    # -- what a worker does ---------------------------------------------------

    def _traced_for(self, spec, batch):
        if spec is None:
            spec = tf.nest.map_structure(tf.type_spec_from_value, batch)
        return self._traced_once(repr(spec), lambda *args: self._replica_step(*args), spec)

    def _traced_for_workers(self, iterators):
        def next_step(number, iterator):
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
            batch = iterator.get_next_as_optional()

            def nothing():
                head = tf.stack([tf.constant(-1.0), _NO_DATA, tf.cast(worker, tf.float32)])
                rest = sum(shape.num_elements() for shape in self._layout.shapes[1:])
                return tf.concat([tf.cast(head, tf.float64), tf.zeros([rest], tf.float64)], axis=0)

            return tf.cond(
                batch.has_value(),
                lambda: self._replica_step(number, batch.get_value(), worker),
                nothing,
            )

        spec = tf.data.IteratorSpec(iterators.element_spec)
        return self._traced_once(f"workers {iterators.element_spec!r}", next_step, spec)

    def _traced_once(self, key, function, spec):
        key = key, self._asynchrony.staleness_scaling
        if key not in self._traced:
            function = tf.function(function, autograph=False)
            number = tf.TensorSpec([], tf.int64)
            self._traced[key] = function.get_concrete_function(number, spec), self._layout
        function, self._layout = self._traced[key]
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
            scaling = self._asynchrony.staleness_scaling
            step = AsyncStep(number, count_examples(batch), version, self._claim, scaling)
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
        self._layout = Layout(metrics, list(logs), [v.shape for v in values])
        return tf.concat([tf.reshape(v, [-1]) for v in values], axis=0)

    # -- logs -------------------------------------------------------------------

    def _present_logs(self):
        now = time.monotonic()
        if now - self._shown_at >= _LOGS_S or not self._shown:
            self._shown_at = now
            with keras.StatelessScope(state_mapping=self._metrics_state()):
                metrics = self._model.get_metrics_result()
            self._shown = {**self._logs, **metrics}
        return self._shown

    def _metrics_state(self):
        """Pairs of each metric variable and its value, with the steps that have ended."""
        variables = self._layout.metrics
        if self._sums_before is None:
            self._sums_before = [v.numpy().astype("float64") for v in variables]
        totals = [before + self._sums.get(i, 0) for i, before in enumerate(self._sums_before)]
        return [(v, tf.cast(total, v.dtype)) for v, total in zip(variables, totals)]

    def settle(self):
        """Waits for the steps that are out; metrics' variables then hold their sums."""
        for result in self._out.rest():
            worker, iterators = self._take(result), self._iterators
            if worker is None:
                continue
            iterators.ended.add(worker)
            # A step that found no data is made up for, while others have some.
            if iterators.batches is not None and not iterators.all_ended():
                self._owed += 1
                self._pay(iterators)
        if self._layout is not None:
            for variable, total in self._metrics_state():
                variable.assign(total)
        self._forget_sums()

    def finish(self):
        """Ends an epoch or an evaluation.

        Returns:
            Dict of the logs that are no metrics.
        """
        self.settle()
        self.is_active = False
        logs = dict(self._logs)
        if self._trains:
            logs |= self._staleness.logs(histogram=self._asynchrony.histogram is not None)
        self._begin_epoch()
        return logs


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


class Predictions:
    """Hands the batches of `predict` out; those of one execution run at the same time."""

    def __init__(self, strategy, model):
        self._strategy = strategy
        step = autograph.convert(model.predict_step)
        step = compat_trainer.optionals_to_none(model, step)
        self._function = tf.function(
            lambda number, batch: step(batch), autograph=False, reduce_retracing=True
        )

    def __call__(self, batches):
        out = Outstanding(self._strategy)
        numbers = [out.hand_out(self._function, batch) for batch in batches]
        found = dict(out.rest())
        outputs = [found[number] for number in numbers]
        return tf.nest.map_structure(lambda *parts: np.concatenate(parts, axis=0), *outputs)


def _names(model):
    return set(model.get_metrics_result()) if model.metrics else set()


def _check(model, trains):
    if model.run_eagerly:
        raise ValueError(
            "`run_eagerly=True` cannot run on workers of another process, which get graphs. "
            "Compile without it under a ParameterServerStrategy."
        )
    if not trains:
        return
    optimizer = model.optimizer
    if getattr(optimizer, "gradient_accumulation_steps", None):
        raise ValueError(
            "`gradient_accumulation_steps` has no meaning under a ParameterServerStrategy: each "
            "worker's gradient is applied at once. Use a larger batch."
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ValueError(
            "Loss scaling (mixed_float16) does not work under a ParameterServerStrategy: workers "
            'would change the scale under each other. Use "mixed_bfloat16", which needs none.'
        )
    if optimizer is not None and not optimizer.built:
        optimizer.build(model.trainable_variables)


def _is_float(variable):
    return keras.backend.is_float_dtype(variable.dtype)
