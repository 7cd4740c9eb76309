"""The tail of a training step, once, for every strategy and every optimizer.

    reduce -> look -> unscale -> clip -> accumulate -> update -> average

`reduce` stands in front of `optimizer.apply` (stock Keras reduces at its end,
so that each replica clips a gradient of its own); `look` shows the reduced gradients
to the links of `sync/before_update.py`; the next four are Keras' own `apply`, which
therefore sees the same gradient on every replica as one process would see; `average`
makes the state that layers updated in the forward pass
(the moving statistics of `BatchNormalization`) equal on all replicas.

**The mean over all examples.** Let replica r hold b_r examples of a global
batch of B, and let its loss be L_r, its own mean. Then the global gradient is

    g = sum_r grad (b_r / B) L_r

whatever the split. Where tfdist dealt the batch out B is known, and the weight
goes onto the loss, where Keras' train step scales it for mixed precision: an
example's float16 gradient then has the magnitude that it has in one process, and
gradients that cross replicas (`BatchNormalization(synchronized=True)`) are right.
Where B is not known (a pipeline for each worker), or a train step of the user's
own does not scale its loss, the weight goes onto the gradients; without B,
replicas send b_r g_r and b_r in one message and divide by the sum. A head whose
denominator is not its number of examples (a mask, `mean_with_sample_weight`) has
its L_r multiplied by (D_r / D) (B / b_r), where D_r is the denominator on this
replica and D = sum_r D_r.

**State** that a layer assigned in the forward pass is averaged or added up, see
`sync/layer_state.py`. **Logs** that a step computed from metrics are computed again from
the metrics' global sums (`compat/step_logs.py`); what differs between replicas besides is
averaged, each replica weighed by b_r.

**A train step of the user's own** has a loss that is the mean over its replica's examples:
nothing else is known of it. `tf.nn.compute_average_loss` says that it has been divided
already, and is corrected for (`compat/average_loss.py`); where a constant in the loss may mean
that, there is a warning (`sync/loss_idioms.py`).

Limits: `add_loss` values are averaged like losses (b_r / B each), so one that
is a sum over the batch, not a mean, differs from one process.
"""

import contextlib

import tensorflow as tf

from tfdist.compat.optimizer import loss_scale
from tfdist.compat.step_logs import MetricsOfStep, StepLogs
from tfdist.compat.variables import assign_own, global_copy, held
from tfdist.sync.collected_updates import CollectsUpdates, CommunicatesError
from tfdist.sync.layer_state import LayerState
from tfdist.sync.loop_step import Step

_LARGE_BYTES = 2**16


class KerasStep(CollectsUpdates, Step):
    """One replica's step of `fit` or `evaluate`: the mean over all examples.

    Args:
        communicator: a `ReplicaCommunicator`.
        replica_id: scalar int tensor, or None for a single replica.
        examples: scalar int tensor, b_r: how many of this replica's examples count.
        global_examples: scalar int tensor, that of the global batch, or None if
            it is not known.
        variables: list of the Keras variables that layers may assign.
        idioms: the `LossIdioms` that look at the losses of the user's own, or None.
        after_update: the `AfterUpdate` of the model, or None.
        before_update: its `BeforeUpdate`, or None.

    Attributes:
        logs: the `StepLogs` of the step, as soon as it is traced.
    """

    weighs_examples = True
    logs = None

    def __init__(
        self,
        communicator,
        replica_id,
        examples,
        global_examples=None,
        variables=(),
        idioms=None,
        after_update=None,
        before_update=None,
    ):
        super().__init__(communicator, replica_id)
        self.examples = examples
        self._global_examples = global_examples
        self._state = LayerState(variables if self.num_replicas > 1 else ())
        self._metrics = MetricsOfStep()
        self._idioms = idioms
        self._after_update, self._before_update = after_update, before_update
        self._forward_communicates = False
        self._weighed_for = set()  # ids of the optimizers whose loss carries b_r / B
        self._updates = []  # (optimizer, variables, gradients), while they are collected

    # -- the forward pass ---------------------------------------------------

    def note_assignment(self, variable, value):
        if variable.synchronization == "on_read":
            self._metrics.note_assignment(variable)
        elif self.num_replicas > 1:
            self._state.note_assignment(variable, value)

    def assign(self, variable, value):
        assign_own(held(variable), value)

    def note_addition(self, variable, amount):
        if self.num_replicas > 1:
            self._state.note_addition(variable, amount)

    def note_result(self, metric, compute, value):
        self._metrics.note_result(metric, compute, value)

    def note_target(self, loss):
        if self._idioms is not None and self._idioms.own_step:
            self._idioms.look_at(loss)

    def note_loss(self, loss):
        """A function of the user's own, which `compile` was given, returned `loss`."""
        if self._idioms is not None:
            self._idioms.look_at(loss)

    def note_right_loss(self, loss):
        """`loss` is that of this replica's examples: it needs no second look."""
        if self._idioms is not None:
            self._idioms.note_right(loss)

    def note_unreduced_loss(self, loss):
        """A loss object returned `loss` without a mean."""
        if self._idioms is not None:
            self._idioms.note_unreduced(loss)

    def take_logs(self, logs, metric_variables, alike):
        """Takes the logs of the step apart, in the function in which it was traced.

        Args:
            logs: what the train step returned on this replica.
            metric_variables: list of Keras variables, the metrics' state.
            alike: list of the Keras variables that the steps of all replicas end with alike.

        Returns:
            A list of tensors, which `finish` wants back.
        """
        changed = self._state.assigned_ids()
        alike = [v for v in alike if id(v) not in changed]
        every = {id(v): v for v in metric_variables} | self._metrics.variables
        self.logs = StepLogs(logs, self._metrics, list(every.values()), alike)
        return self.logs.extras

    def note_forward_collective(self):
        """The model itself communicates: gradients flow between replicas."""
        if self.collects_updates:
            raise CommunicatesError
        self._forward_communicates = True

    def zero_if_empty(self, value):
        """`value`, or 0 where no example of this replica counts."""
        return tf.where(self.examples > 0, value, tf.zeros_like(value))

    @contextlib.contextmanager
    def keeping_if_empty(self, metric_variables):
        """Metrics that are updated inside keep their state where no example counts."""
        if self.num_replicas == 1:
            yield
            return
        before = [tf.identity(v.value) for v in metric_variables]
        yield
        for variable, value in zip(metric_variables, before):
            variable.assign(tf.where(self.examples > 0, variable.value, value))

    def global_examples(self):
        """Scalar float64: B, the examples of the global batch. Communicates if it must."""
        if self._global_examples is None:
            (self._global_examples,) = self.communicator.all_reduce(
                [tf.cast(self.examples, tf.float64)]
            )
        return tf.cast(self._global_examples, tf.float64)

    def knows_share(self):
        """Whether `share` can be had here: in a branch or a loop nothing can be sent."""
        if self._global_examples is not None or tf.executing_eagerly():
            return True
        return self.examples.graph is tf.compat.v1.get_default_graph()

    def share(self):
        """Scalar float64: b_r / B."""
        return tf.math.divide_no_nan(tf.cast(self.examples, tf.float64), self.global_examples())

    def examples_ratio(self):
        """Scalar float64: B / b_r; 0 on a replica without examples."""
        return tf.math.reciprocal_no_nan(self.share())

    def denominator_ratio(self, denominator):
        """Scalar float64: (D_r / D) (B / b_r). Communicates."""
        denominator = self.zero_if_empty(tf.stop_gradient(tf.cast(denominator, tf.float64)))
        (total,) = self.communicator.all_reduce([denominator])
        return tf.math.divide_no_nan(denominator, total) * self.examples_ratio()

    def weigh_loss(self, loss, optimizer):
        known = self._global_examples is not None or self._forward_communicates
        if self.num_replicas == 1 or not known:
            return loss
        self._weighed_for.add(id(optimizer))
        return self.zero_if_empty(loss) * tf.cast(self.share(), loss.dtype)

    # -- the tail -----------------------------------------------------------

    def reduce_gradients(self, gradients, optimizer):
        if self.num_replicas == 1:
            return gradients
        # Half precision could overflow in the sum.
        present = [
            _cast(g, tf.float32) if g.dtype.size < 4 else g for g in gradients if g is not None
        ]
        if id(optimizer) in self._weighed_for:
            reduced = iter(self.communicator.all_reduce(present))
        else:
            reduced = iter(self._means(present))
        return [None if g is None else _cast(next(reduced), g.dtype) for g in gradients]

    def before_update(self, optimizer, gradients, variables):
        if self._before_update is None or not variables:
            return gradients
        return self._before_update.run(gradients, variables, loss_scale(optimizer))

    def finish(self, logs, extras, metric_variables):
        """Makes layers' state, metrics and logs global: one message a dtype.

        Args:
            logs: what the train step returned on this replica: any structure of
                tensors and numbers.
            extras: list of tensors, what `take_logs` returned.
            metric_variables: list of Keras variables, the state of metrics that becomes
                global now.

        Returns:
            The logs of the global batch; the same on all replicas.
        """
        if self.num_replicas == 1:
            self._end_update(agreed=tf.constant(True))
            return logs
        known = {id(v) for v in metric_variables}
        # Metrics that the model does not know of, which its step updates all the same.
        others = [v for key, v in self._metrics.variables.items() if key not in known]
        metric_variables = [*metric_variables, *(v for v in others if not is_large(v))]
        values = [_as_tensor(value) for value in tf.nest.flatten(logs)]
        differ = [i for i in range(len(values)) if i not in self.logs.derived | self.logs.alike]
        averaged = self._state.averaged()
        summed, parts = self._state.summed(self.examples > 0, self._is_first())
        state = [tf.convert_to_tensor(v.value) for v in averaged]
        metrics = [tf.convert_to_tensor(v.value) for v in metric_variables]
        means, sums = self._means_and_sums(
            state + [_floating(values[i]) for i in differ], metrics + parts
        )
        for variable, mean in zip(averaged, means):
            assign_own(variable.value, mean)
        self._state.assign_sums(summed, sums[len(metric_variables) :])
        self._state.assign_merged(self.examples, self.communicator)
        pairs = list(zip(metric_variables, sums))
        for variable, value in pairs:
            copy = global_copy(variable)
            if copy is not None:
                copy.assign(value)
        for place, mean in zip(differ, means[len(averaged) :]):
            values[place] = mean
        for place, value in self.logs.on_global_metrics(pairs, extras).items():
            values[place] = value
        self._end_update(agreed=tf.constant(True))
        return tf.nest.pack_sequence_as(logs, values)

    def _end_update(self, agreed):
        if self._after_update is not None:
            self._after_update.run(self.communicator, agreed)

    def _is_first(self):
        return tf.constant(True) if self.replica_id is None else tf.equal(self.replica_id, 0)

    def _means(self, values):
        return self._means_and_sums(values, [])[0]

    def _means_and_sums(self, averaged, summed):
        """Means over examples of `averaged` and sums of `summed`: one message a dtype."""
        dtypes = {value.dtype: None for value in averaged}
        if self._global_examples is not None:
            weights = {dtype: tf.cast(self.share(), dtype) for dtype in dtypes}
            weighed = [scaled(value, weights[value.dtype]) for value in averaged]
            totals = self.communicator.all_reduce(weighed + summed)
            return totals[: len(averaged)], totals[len(averaged) :]
        counts = [tf.cast(self.examples, dtype) for dtype in dtypes]
        weights = dict(zip(dtypes, counts))
        weighed = [scaled(value, weights[value.dtype]) for value in averaged]
        totals = self.communicator.all_reduce(weighed + summed + counts)
        total = dict(zip(dtypes, totals[len(averaged) + len(summed) :]))
        means = [scaled(v, tf.math.reciprocal(total[v.dtype])) for v in totals[: len(averaged)]]
        return means, totals[len(averaged) : len(averaged) + len(summed)]


def scaled(value, factor):
    """`value` times a scalar; NaN times 0 is 0 (a replica without examples)."""
    if isinstance(value, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.math.multiply_no_nan(value.values, factor), value.indices, value.dense_shape
        )
    return tf.math.multiply_no_nan(value, factor)


def is_large(variable):
    """Whether the state of a metric, a Keras variable, stays out of the steps' messages."""
    value = variable.value
    return value.shape.num_elements() * value.dtype.size > _LARGE_BYTES


def _as_tensor(value):
    return value if isinstance(value, tf.Tensor) else tf.convert_to_tensor(value)


def _floating(value):
    return value if value.dtype.is_floating else tf.cast(value, tf.float32)


def _cast(value, dtype):
    return value if value.dtype == dtype else tf.cast(value, dtype)
