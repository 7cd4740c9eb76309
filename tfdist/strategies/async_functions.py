"""The functions that `fit`, `evaluate` and `predict` call under parameter servers.

Each takes the next batch from its iterator and hands it out as a step to whichever
worker is free; it does not wait for that step. So a call of the train function returns
when there is room for another step, with the logs of the steps that are done; where
the steps of an epoch end, `finish` waits for the rest.

A step begins with metrics at zero and returns what it added to them; the coordinator
sums that up. So metrics are exact: no two workers write them, and a step that ran
twice, because its worker was lost, is counted once. Logs that a step computed from its
metrics are computed again from the sums; others are those of the last batch's step.
"""

import time
from typing import NamedTuple

import tensorflow as tf

from tfdist.compat import autograph, epoch_iterator
from tfdist.compat import trainer as compat_trainer
from tfdist.compat.layout import is_own
from tfdist.compat.parameter_servers import outside_of_scopes
from tfdist.strategies import checks
from tfdist.strategies.outstanding import Outstanding
from tfdist.strategies.variables import layer_variables, optimizers_of
from tfdist.strategies.worker_datasets import WorkerIterators
from tfdist.strategies.worker_step import NO_DATA, WorkerStep
from tfdist.sync.async_step import check_optimizer
from tfdist.sync.staleness import Asynchrony, StalenessBound, StalenessLog

STEPS_A_WORKER = 2  # out at once: one runs, one waits
_LOGS_S = 0.1  # how often the logs in the middle of an epoch are computed anew
_IDLE_S = 0.01  # before another step is tried where a worker had no data


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
        self._step = WorkerStep(model, self._trains)
        self._ever_ran = False
        self.is_active = False  # whether steps have been handed out since `finish`
        self._begin_call()

    def _begin_call(self):
        self._asynchrony = self._strategy.asynchrony if self._trains else Asynchrony()
        self._step.staleness_scaling = self._asynchrony.staleness_scaling
        bound = 0 if _in_order(self._model) else self._asynchrony.max_staleness
        self._bound, self._one_by_one = StalenessBound(bound), bound == 0
        self._out = Outstanding(self._strategy)
        self._iterators = None  # the workers', where they read for themselves
        self._begin_epoch()

    def _begin_epoch(self):
        self._staleness, self._owed = StalenessLog(self._asynchrony.histogram), 0
        self._values, self._told_by = None, -1  # flat logs of the last step that has ended
        self._shown, self._shown_at = None, -_LOGS_S
        self._forget_sums()

    def _forget_sums(self):
        self._sums, self._sums_before = {}, None

    def __call__(self, iterator):
        model, strategy = self._model, self._strategy
        if strategy.next_call is not None or not self._ever_ran:
            strategy.next_call = None
            _check(model, self._trains, strategy)
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
        on_batch = not isinstance(iterator, tf.data.Iterator)  # `train_on_batch`
        if on_batch:
            self._forget_sums()  # `test_on_batch` may have added to them
        for _ in range(self._model.steps_per_execution):
            try:
                batch = next(iterator)
            except StopIteration:
                break
            self._wait_for_room()
            self._hand_out(self._step.traced_for(spec, batch), batch)
            done += 1
        if not done:
            read_before = self._ever_ran or epoch_iterator.was_read(iterator)
            raise StopIteration if read_before else checks.empty_dataset()
        for result in self._out.rest() if self._one_by_one else self._out.those_done():
            self._take(result)
        if on_batch:
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
        layout = self._step.layout
        (version, read_version, worker), *values = layout.split(vector)
        if read_version == NO_DATA:
            return int(worker)
        if version >= 0:
            self._staleness.add(int(version - read_version))
        for place, value in enumerate(values[: len(layout.metrics)]):
            self._sums[place] = self._sums.get(place, 0) + value
        if number > self._told_by:
            self._values, self._told_by = values[len(layout.metrics) :], number
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
        function = self._step.traced_for_workers(iterators)
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

    # -- logs -------------------------------------------------------------------

    def _present_logs(self):
        now = time.monotonic()
        if self._one_by_one or now - self._shown_at >= _LOGS_S or not self._shown:
            self._shown, self._shown_at = self._compute_logs(), now
        return self._shown

    def _compute_logs(self):
        """The logs with the steps that have ended; without those that no step has told yet."""
        layout = self._step.layout
        totals = [total for _, total in self._metrics_state()]
        derived = layout.compute(totals) if layout.logs.derived else {}
        told = self._values is not None
        values = list(self._values) if told else [None] * len(tf.nest.flatten(layout.structure))
        for place, value in derived.items():
            values[place] = value
        logs = tf.nest.pack_sequence_as(layout.structure, values)
        if told or not isinstance(logs, dict):
            return logs
        return {
            name: value
            for name, value in logs.items()
            # Not `in`, which compares, element by element where a log is an array.
            if all(part is not None for part in tf.nest.flatten(value))
        }

    def _metrics_state(self):
        """Pairs of each metric variable and its value, with the steps that have ended."""
        variables = self._step.layout.metrics
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
        if self._step.layout is not None:
            for variable, total in self._metrics_state():
                variable.assign(total)
        self._forget_sums()
        self._shown = None

    def finish(self):
        """Ends an epoch or an evaluation.

        Returns:
            The logs, and a dict of what is logged besides.
        """
        self.settle()
        self.is_active = False
        logs, more = self._compute_logs(), {}
        if self._trains:
            more = self._staleness.logs(histogram=self._asynchrony.histogram is not None)
        self._begin_epoch()
        return logs, more


class Predictions:
    """Hands the batches of `predict` out; those of one execution run at the same time."""

    def __init__(self, strategy, model):
        self._strategy, self._model = strategy, model
        step = autograph.convert(model.predict_step)
        step = compat_trainer.optionals_to_none(model, step)
        self._function = tf.function(
            outside_of_scopes()(lambda number, batch: _taken_apart(step(batch))),
            autograph=False,
            reduce_retracing=True,
        )

    def __call__(self, batches):
        if self._strategy.next_call is not None:
            self._strategy.next_call = None
            _check(self._model, False, self._strategy)
        out, outputs, found = Outstanding(self._strategy), [], {}
        in_order = _in_order(self._model)
        for batch in batches:
            outputs.append(out.hand_out(self._function, batch))
            if in_order:
                found |= dict(out.rest())
        found |= dict(out.rest())
        outputs = [found[number] for number in outputs]
        outputs = tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)
        return _put_together(outputs)


class _Ragged(NamedTuple):
    """A ragged tensor as workers hand it over."""

    flat_values: tf.Tensor
    row_lengths: tuple


def _taken_apart(outputs):
    def apart(value):
        if not isinstance(value, tf.RaggedTensor):
            return value
        return _Ragged(value.flat_values, value.nested_row_lengths())

    return tf.nest.map_structure(apart, outputs)


def _put_together(outputs):
    if isinstance(outputs, _Ragged):
        return tf.RaggedTensor.from_nested_row_lengths(outputs.flat_values, outputs.row_lengths)
    if isinstance(outputs, dict):
        return {name: _put_together(value) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(_put_together(value) for value in outputs)
    return outputs


def _in_order(model):
    """Whether steps must follow each other: rows of a batch go on where the last one ended."""
    return any(is_own(variable) for variable in layer_variables(model))


def _check(model, trains, strategy):
    if model.run_eagerly:
        raise ValueError(
            "`run_eagerly=True` cannot run on workers of another process, which get graphs. "
            "Compile without it under a ParameterServerStrategy."
        )
    if not trains:
        return
    for optimizer in optimizers_of(model).values():
        check_optimizer(optimizer)
    if _in_order(model) and strategy.asynchrony.max_staleness != 0:
        raise ValueError(
            "Layers of this model keep state from one batch to the next that belongs to a batch's "
            'rows (a stateful RNN, or `add_weight(aggregation="none")`), but the steps of a '
            "ParameterServerStrategy run at the same time. Pass "
            "`callbacks=[tfdist.callbacks.AsyncSGD(max_staleness=0)]`, one step after the other, "
            "or make the layers without such state."
        )
    strategy.build_optimizer(model)
