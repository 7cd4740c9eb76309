"""The functions that `fit`, `evaluate` and `predict` call, under a tfdist strategy.

Each takes an iterator and runs `steps_per_execution` steps on it, as Keras' own
do. What differs: a step ends with one message that makes metrics, logs and
layers' state global (`sync/step.py`), instead of a mean over replicas for each
log; and running out of data is noticed before anything is communicated, without
asking the other workers, since all of them walk through the same global batches.
"""

import keras
import tensorflow as tf

from tfdist.compat import active_step, autograph, epoch_iterator, inputs, step_logs
from tfdist.compat import trainer as compat_trainer
from tfdist.compat import variables as compat_variables
from tfdist.data.split import GlobalBatch
from tfdist.strategies import checks
from tfdist.strategies.compiled_step import compiled
from tfdist.strategies.metric_sums import MetricSums
from tfdist.strategies.variables import model_variables
from tfdist.sync.step import Step, is_large


def make_function(strategy, model, kind):
    """What `model` calls with an iterator; `kind` is "train", "test" or "predict"."""
    if kind == "predict":
        return Predictions(strategy, model)
    return Steps(strategy, model, kind)


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


class Predictions:
    """Runs the steps of `predict`; called with a list of batches for each execution.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
    """

    def __init__(self, strategy, model):
        self._strategy, self._model = strategy, model
        step = autograph.convert(model.predict_step)
        self._step = compat_trainer.optionals_to_none(model, step)
        self._many = self._many_steps
        if not model.run_eagerly:
            self._many = tf.function(self._many_steps, reduce_retracing=True)
        self._ever_ran = False

    def _replica_step(self, batch):
        strategy = self._strategy
        with active_step.activate(Step(strategy.communicator(), strategy.replica_id())):
            if not isinstance(batch, GlobalBatch):
                return self._step(batch)
            outputs = self._step(batch.data)
        return tf.nest.map_structure(lambda output: output[: batch.examples], outputs)

    def _one_step(self, data):
        outputs = self._strategy.run_on_replicas(self._replica_step, args=(data,))
        if inputs.is_distributed(data):
            return tf.nest.map_structure(self._strategy.gather_in_order, outputs)
        # `predict_on_batch`: every replica had all of it.
        return tf.nest.map_structure(
            lambda output: self._strategy.experimental_local_results(output)[0], outputs
        )

    @tf.autograph.experimental.do_not_convert
    def _many_steps(self, batches):
        outputs = [self._one_step(data) for data in batches]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)

    def __call__(self, batches):
        begin(self._strategy, self._model, first=not self._ever_ran)
        self._ever_ran = True
        with self._strategy.watching("a prediction step"):
            return self._many(batches)


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


def begin(strategy, model, first):
    """Lets all workers compare notes, once for each call of a Keras method.

    Args:
        strategy: a tfdist strategy.
        model: the Keras model.
        first: whether the step function has never run (`train_on_batch` runs it
            without a call that was checked).
    """
    facts, strategy.next_call = strategy.next_call, None
    if facts is not None or first:
        strategy.batch_size = (facts or {}).get("batch size")
        strategy.begin(model, facts or {})


def unpack(batch):
    """Splits what an iterator yields.

    Returns:
        `(data, examples, global_examples)`: the replica's data, how many of its
        examples count, and how many the global batch has (None: not known).
    """
    if isinstance(batch, GlobalBatch):
        return batch.data, batch.examples, batch.global_examples
    return batch, count_examples(batch), None


def count_examples(data):
    """Scalar int32: the first dimension of the first tensor of the inputs.

    Args:
        data: a batch, `x`, `(x, y)` or `(x, y, sample_weight)`.
    """
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    for value in keras.tree.flatten(x):
        if isinstance(value, tf.RaggedTensor):
            return tf.cast(value.nrows(), tf.int32)
        if isinstance(value, tf.SparseTensor):
            return tf.cast(value.dense_shape[0], tf.int32)
        if value is not None:
            return tf.shape(value)[0]
    raise ValueError(
        "A training batch must hold at least one input tensor with a batch dimension. "
        f"Received: {data!r}. Yield `(x, y)` or `(x, y, sample_weight)`."
    )


def metric_variables(model):
    """The state of the model's metrics that replicas keep apart and that sums up."""
    seen = {}
    for metric in model.metrics:
        for variable in metric.variables:
            if variable.synchronization == "on_read":
                seen[id(variable)] = variable
    return list(seen.values())


def keep_global_copies(strategy, model):
    """Gives each metric variable a copy that holds its value over all workers.

    Reading a metric is then local: a callback on the chief alone may do it, where
    TensorFlow would wait for the other workers to read it too.
    """
    if strategy.place.mesh.data == 1:
        return
    for variable in metric_variables(model):
        if compat_variables.global_copy(variable) is None:
            with strategy.scope():
                copy = tf.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    trainable=False,
                    aggregation=tf.VariableAggregation.NONE,
                )
            compat_variables.set_global_copy(variable, copy)
