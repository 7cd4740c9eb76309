"""The function that `fit` and `evaluate` call, under a tfdist strategy.

It takes an iterator and runs `steps_per_execution` steps on it, as Keras' own
does. What differs: a step ends with one message that makes metrics, logs and
layers' state global (`sync/step.py`), instead of a mean over replicas for each
log; and running out of data is noticed before anything is communicated, without
asking the other workers, since all of them walk through the same global batches.
"""

import keras
import tensorflow as tf

from tfdist.compat import active_step, autograph, epoch_iterator, inputs, step_logs
from tfdist.compat import trainer as compat_trainer
from tfdist.strategies import checks
from tfdist.strategies.batches import begin, unpack
from tfdist.strategies.compiled_step import compiled
from tfdist.strategies.metric_sums import MetricSums, keep_global_copies, metric_variables
from tfdist.strategies.variables import model_variables
from tfdist.sync.step import is_large


class Steps:
    """Runs the steps of `fit` or `evaluate`.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
        kind: "train" or "test".
    """

    def __init__(self, strategy, model, kind):
        self._strategy, self._model = strategy, model
        self._sync = strategy.gradient_sync_of(model) if kind == "train" else None
        self._differ = self._sync is not None and self._sync.algorithm.local
        self._sums = MetricSums(strategy, model)
        self._logs = None  # the `StepLogs` of the step that was traced last
        self._step = autograph.convert(model.train_step if kind == "train" else model.test_step)
        self._without_optionals = compat_trainer.optionals_to_none(model, lambda data: data)
        self._compute = _compute(model, self._step_and_extras)
        self._many_steps = _repeat(self._one_step, model)
        self._one = self._one_step
        if not model.run_eagerly:
            self._one = tf.function(self._one_step, reduce_retracing=True)
        self._ever_ran = False

    # -- one step, traced on each replica -----------------------------------------

    def _step_and_extras(self, data):
        logs = self._step(data)
        # In the function that XLA compiles, where it can be seen what logs are made of.
        alike = [] if self._differ else model_variables(self._model)
        step = active_step.current()
        return logs, step.take_logs(logs, metric_variables(self._model), alike)

    def _replica_step(self, batch):
        model = self._model
        data, examples, global_examples = unpack(batch)
        data = self._without_optionals(data)
        step = self._strategy.make_step(model, examples, global_examples, self._sync)
        metrics = metric_variables(model)
        with active_step.activate(step), step.keeping_if_empty(metrics):
            logs, extras = self._compute(step, data)
        self._logs = step.logs
        small = [variable for variable in metrics if not is_large(variable)]
        return step.finish(logs, extras, small)

    @tf.autograph.experimental.do_not_convert
    def _one_step(self, data):
        with step_logs.noting_results(self._model.metrics):
            logs = self._strategy.run_on_replicas(self._replica_step, args=(data,))
        of_worker = _mean if self._differ else lambda values: values[0]
        return tf.nest.map_structure(
            lambda log: of_worker(self._strategy.experimental_local_results(log)), logs
        )

    # -- an execution ---------------------------------------------------------------

    def __call__(self, iterator):
        begin(self._strategy, self._model, first=not self._ever_ran)
        keep_global_copies(self._strategy, self._model)
        if self._sync is None:
            return self._execute(iterator)
        self._sync.before_steps()
        return self._sync.with_traffic(self._execute(iterator))

    def _execute(self, iterator):
        if inputs.is_iterator(iterator):
            return self._run(iterator)
        logs = self._run(self._dealt_out(next(iterator)))  # `train_on_batch`
        self._sums.add_up()
        return self._of_global_metrics(logs)

    def _run(self, iterator):
        model, strategy = self._model, self._strategy
        if inputs.ends_quietly(iterator):
            if not self._ever_ran:
                _trace(self._many_steps, iterator)
            self._ever_ran = True
            with strategy.watching("a training or evaluation step"):
                return self._many_steps(iterator)
        logs = None
        for _ in range(model.steps_per_execution):
            try:
                data = next(iterator)
            except StopIteration:
                break
            if not self._ever_ran:
                # For batches of any size: were it traced for the first one's, a training
                # that begins at a short batch (resumed there) would round differently.
                _trace(self._one, getattr(iterator, "element_spec", data))
            self._ever_ran = True
            with strategy.watching("a training or evaluation step"):
                logs = self._one(data)
        if logs is None:
            read_before = self._ever_ran or epoch_iterator.was_read(iterator)
            raise StopIteration if read_before else checks.empty_dataset()
        return logs

    def _dealt_out(self, batch):
        """An iterator of the one batch of `train_on_batch`, of which each replica gets its rows."""
        # Keras takes lists apart, tf.data makes tensors of them.
        dataset = tf.data.Dataset.from_tensors(keras.tree.lists_to_tuples(batch))
        with self._strategy.distributing_for_keras():
            return iter(self._strategy.experimental_distribute_dataset(dataset))

    # -- where the steps of an epoch have ended ---------------------------------------

    def epoch_logs(self, logs, of_metrics):
        """The logs of an epoch, or of an evaluation. All workers must call it.

        Args:
            logs: those of its last step.
            of_metrics: function of them, Keras' own: the model's metrics in their place
                where they have the same names.
        """
        sync = self._sync
        if not self._differ:
            self._sums.add_up()
        if sync is None:
            return of_metrics(self._of_global_metrics(logs))
        sync.end_of_epoch()
        traffic = sync.traffic()
        if not isinstance(logs, dict):
            return of_metrics(logs)
        own = {name: value for name, value in logs.items() if name not in traffic}
        if self._differ:
            own = sync.global_logs(own, self._known(own))
        else:
            own = self._of_global_metrics(own)
        return {**of_metrics(own), **traffic}

    def _known(self, logs):
        """Dict of the logs that follow from the metrics, which are global now, by places."""
        if self._logs is None or not self._logs.is_of(logs):
            return {}
        return self._logs.of_present_metrics()

    def _of_global_metrics(self, logs):
        """`logs` with those that follow from metrics of large state computed anew."""
        if not any(is_large(v) for v in metric_variables(self._model)):
            return logs
        values = tf.nest.flatten(logs)
        for place, value in self._known(logs).items():
            values[place] = value
        return tf.nest.pack_sequence_as(logs, values)


def _mean(values):
    """The mean of replicas' logs."""
    first = tf.convert_to_tensor(values[0])
    if len(values) == 1 or not first.dtype.is_floating:
        return first
    return tf.add_n([tf.convert_to_tensor(value) for value in values]) / len(values)


def _compute(model, step_function):
    """`step_function` as a function of a step and its data, compiled if the model asks for it."""
    if model.jit_compile:
        return compiled(model, step_function)
    return lambda step, data: step_function(data)


def _trace(function, argument):
    """Traces a `tf.function` before its first call.

    A call that traces and finds new variables (an optimizer or a metric of the
    user's own, built in the first step) wraps the function in a condition, which
    does not feed the keys of collectives.
    """
    if hasattr(function, "get_concrete_function"):
        function.get_concrete_function(argument)


def _repeat(one_step, model):
    """A function of an iterator that runs `steps_per_execution` steps in one call.

    `one_step` is a Python function, traced as a part of it: TensorFlow does not
    feed the keys of the collectives of a function that is called in a condition.
    """
    if model.run_eagerly:

        def many_steps(iterator):
            logs = one_step(iterator.get_next())
            for _ in range(1, model.steps_per_execution):
                optional = inputs.NextBatch(iterator)
                if not optional.has_value():
                    break
                logs = one_step(optional.get_value())
            return logs

        return many_steps

    @tf.autograph.experimental.do_not_convert
    def many_steps(iterator):
        logs = one_step(iterator.get_next())
        if model.steps_per_execution == 1:
            return logs

        def body(step, logs):
            batch = inputs.NextBatch(iterator)
            logs = tf.cond(batch.has_value(), lambda: one_step(batch.get_value()), lambda: logs)
            return step + 1, logs

        return tf.while_loop(lambda step, _: step < model.steps_per_execution, body, (1, logs))[1]

    return tf.function(many_steps, reduce_retracing=True)
