"""The functions that `fit`, `evaluate` and `predict` call, under a tfdist strategy.

Each takes an iterator and runs `steps_per_execution` steps on it, as Keras' own
do. What differs: a step ends with one message that makes metrics, logs and
layers' state global (`sync/step.py`), instead of a mean over replicas for each
log; and running out of data is noticed before anything is communicated, without
asking the other workers, since all of them walk through the same global batches.
"""

import keras
import tensorflow as tf

from tfdist.compat import active_step, autograph, epoch_iterator, inputs
from tfdist.compat import trainer as compat_trainer
from tfdist.compat import variables as compat_variables
from tfdist.data.split import GlobalBatch
from tfdist.strategies import checks
from tfdist.strategies.compiled_step import compiled
from tfdist.strategies.metric_sums import MetricSums, is_large
from tfdist.sync.step import KerasStep


def make_train_function(strategy, model):
    """The function that `fit` calls with an iterator for each execution."""
    return _make_step_function(strategy, model, model.train_step, strategy.gradient_sync_of(model))


def make_test_function(strategy, model):
    """The function that `evaluate` calls with an iterator for each execution."""
    return _make_step_function(strategy, model, model.test_step)


def _make_step_function(strategy, model, step_function, sync=None):
    step_function = autograph.convert(step_function)
    compute = compiled(model, step_function) if model.jit_compile else _uncompiled(step_function)
    without_optionals = compat_trainer.optionals_to_none(model, lambda data: data)

    def replica_step(batch):
        data, examples, global_examples = unpack(batch)
        data = without_optionals(data)
        if sync is None:
            replica = strategy.communicator(), strategy.replica_id()
            step = KerasStep(*replica, examples, global_examples)
        else:
            step = sync.step(examples, global_examples)
        metrics = metric_variables(model)
        with active_step.activate(step), step.keeping_if_empty(metrics):
            logs = compute(step, data)
        small = [variable for variable in metrics if not is_large(variable)]
        return step.finish(logs, small, model.get_metrics_result)

    @tf.autograph.experimental.do_not_convert
    def one_step(data):
        logs = strategy.run_step(replica_step, args=(data,))
        differ = sync is not None and sync.algorithm.local
        of_worker = _mean if differ else lambda values: values[0]
        return tf.nest.map_structure(
            lambda log: of_worker(strategy.experimental_local_results(log)), logs
        )

    many_steps = _repeat(one_step, model)
    if not model.run_eagerly:
        one_step = tf.function(one_step, reduce_retracing=True)
    ever_ran = False
    sums = MetricSums(strategy, model)

    def synchronized(iterator):
        sync.before_steps()
        return sync.with_traffic(function(iterator))

    def begun(iterator):
        begin(strategy, model, first=not ever_ran)
        keep_global_copies(strategy, model)
        return function(iterator) if sync is None else synchronized(iterator)

    def function(iterator):
        nonlocal ever_ran
        if inputs.ends_quietly(iterator):
            if not ever_ran:
                _trace(many_steps, iterator)
            ever_ran = True
            with strategy.watching("a training or evaluation step"):
                return many_steps(iterator)
        logs = None
        for _ in range(model.steps_per_execution):
            try:
                data = next(iterator)
            except StopIteration:
                break
            if not ever_ran:
                # For batches of any size: were it traced for the first one's, a training
                # that begins at a short batch (resumed there) would round differently.
                _trace(one_step, getattr(iterator, "element_spec", data))
            ever_ran = True
            with strategy.watching("a training or evaluation step"):
                logs = one_step(data)
        if logs is None:
            read_before = ever_ran or epoch_iterator.was_read(iterator)
            raise StopIteration if read_before else checks.empty_dataset()
        one_batch = isinstance(logs, dict) and not inputs.is_iterator(iterator)
        if one_batch and sums.add_up():
            metrics = model.get_metrics_result()
            return {name: metrics.get(name, value) for name, value in logs.items()}
        return logs

    begun.metric_sums = sums
    return begun


def _mean(values):
    """The mean of replicas' logs."""
    first = tf.convert_to_tensor(values[0])
    if len(values) == 1 or not first.dtype.is_floating:
        return first
    return tf.add_n([tf.convert_to_tensor(value) for value in values]) / len(values)


def _uncompiled(step_function):
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


def make_predict_function(strategy, model):
    """The function that `predict` calls with a list of batches for each execution."""
    step_function = compat_trainer.optionals_to_none(model, autograph.convert(model.predict_step))

    def replica_step(batch):
        if not isinstance(batch, GlobalBatch):
            return step_function(batch)
        return tf.nest.map_structure(
            lambda output: output[: batch.examples], step_function(batch.data)
        )

    def one_step(data):
        outputs = strategy.run_step(replica_step, args=(data,))
        if inputs.is_distributed(data):
            return tf.nest.map_structure(strategy.gather_in_order, outputs)
        # `predict_on_batch`: every replica had all of it.
        return tf.nest.map_structure(
            lambda output: strategy.experimental_local_results(output)[0], outputs
        )

    @tf.autograph.experimental.do_not_convert
    def many_steps(batches):
        outputs = [one_step(data) for data in batches]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, axis=0), *outputs)

    if not model.run_eagerly:
        many_steps = tf.function(many_steps, reduce_retracing=True)

    ever_ran = False

    def function(batches):
        nonlocal ever_ran
        begin(strategy, model, first=not ever_ran)
        ever_ran = True
        with strategy.watching("a prediction step"):
            return many_steps(batches)

    return function


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
    if strategy.num_workers == 1:
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
