"""The tail of a training step, once, for every strategy and every optimizer.

    reduce -> unscale -> clip -> accumulate -> update -> average

`reduce` stands in front of `optimizer.apply` (stock Keras reduces at its end,
so that each replica clips a gradient of its own); the next four are Keras' own
`apply`, which therefore sees the same gradient on every replica as one process
would see; `average` makes the state that layers updated in the forward pass
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

**State.** A floating-point variable that a layer assigned in the forward pass
becomes its mean over replicas, each weighed by b_r; a replica without examples
does not count.

Limits: `add_loss` values are averaged like losses (b_r / B each), so one that
is a sum over the batch, not a mean, differs from one process; so do integer
variables that a layer assigns, which are left as they are.
"""

import contextlib

import keras
import tensorflow as tf

from tfdist.compat.variables import global_copy

# Sparse gradients of larger tables stay sparse.
_DENSE_ELEMENTS = 2**24


class CommunicatesError(Exception):
    """The forward pass communicates, where it must not."""


class Step:
    """One replica's step of a custom training loop: gradients are summed.

    That is what `tf.distribute` promises: the loop divides by the global batch
    size. Clipping and all that follows see the sum.

    Args:
        communicator: a `ReplicaCommunicator`.
        replica_id: scalar int tensor, or None for a single replica.
    """

    weighs_examples = False
    collects_updates = False
    compiles_updates = False

    def __init__(self, communicator, replica_id):
        self.communicator = communicator
        self.num_replicas = communicator.num_replicas
        self.replica_id = replica_id

    def weigh_loss(self, loss, optimizer):
        """What `optimizer.scale_loss` scales, instead of `loss`."""
        return loss

    def note_assignment(self, variable):
        pass

    def note_forward_collective(self):
        pass

    def reduce_gradients(self, gradients, optimizer):
        """The gradients that every replica applies; None stays None.

        Args:
            gradients: list of tensors, `tf.IndexedSlices` or None.
            optimizer: the Keras optimizer that will apply them.
        """
        present = [g for g in gradients if g is not None]
        reduced = iter(self.communicator.all_reduce(present))
        return [None if g is None else next(reduced) for g in gradients]

    def update(self, optimizer, apply, gradients):
        """Calls `apply(gradients)`, the optimizer's own."""
        return apply(gradients)


class KerasStep(Step):
    """One replica's step of `fit` or `evaluate`: the mean over all examples.

    Args:
        communicator: a `ReplicaCommunicator`.
        replica_id: scalar int tensor, or None for a single replica.
        examples: scalar int tensor, b_r: how many of this replica's examples count.
        global_examples: scalar int tensor, that of the global batch, or None if
            it is not known.
    """

    weighs_examples = True

    def __init__(self, communicator, replica_id, examples, global_examples=None):
        super().__init__(communicator, replica_id)
        self.examples = examples
        self._global_examples = global_examples
        self._assigned = {}
        self._forward_communicates = False
        self._weighed_for = set()  # ids of the optimizers whose loss carries b_r / B
        self._updates = []  # (optimizer, variables, gradients), while they are collected

    # -- the update, apart from what comes before it --------------------------

    @contextlib.contextmanager
    def collecting_updates(self):
        """Optimizers that are applied inside do nothing but leave their gradients here.

        Yields:
            A list; at the end of the context it holds a list of gradients for each
            call of `apply`.

        Raises:
            CommunicatesError: what happens inside communicates; the step is what it was.
        """
        before = {name: _copied(value) for name, value in vars(self).items()}
        gradients = []
        self.communicator, self.collects_updates = _Silent(self.num_replicas), True
        try:
            yield gradients
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        self.communicator, self.collects_updates = before["communicator"], False
        gradients += [values for _, _, values in self._updates]

    def update(self, optimizer, apply, gradients):
        sparse = [g for g in gradients if isinstance(g, tf.IndexedSlices)]
        if not self.compiles_updates or not _may_be_dense(optimizer, sparse):
            return apply(gradients)
        # XLA knows no sparse ones; optimizers with momenta make them dense anyway.
        dense = [tf.convert_to_tensor(g) if g is not None else None for g in gradients]
        # A closure: TensorFlow would take what a `partial` holds for arguments.
        compiled = tf.function(lambda dense: apply(dense), jit_compile=True, autograph=False)
        return compiled(dense)

    def collect_update(self, optimizer, gradients, variables):
        """Takes what `optimizer.apply` was called with."""
        self._updates.append((optimizer, variables, gradients))

    def take_updates(self):
        """List of `(optimizer, variables)` in the order of the collected gradients."""
        updates, self._updates = self._updates, []
        return [(optimizer, variables) for optimizer, variables, _ in updates]

    # -- the forward pass ---------------------------------------------------

    def note_assignment(self, variable):
        """A layer assigned `variable` (a Keras variable) on this replica."""
        if variable.synchronization != "on_read" and keras.backend.is_float_dtype(variable.dtype):
            self._assigned[id(variable)] = variable

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

    def finish(self, logs, metric_variables, compute_logs):
        """Averages layers' state and makes metrics and logs global: one message a dtype.

        Args:
            logs: what the train step returned on this replica: a dict of
                tensors, or any nested structure of them.
            metric_variables: list of Keras variables, the metrics' state.
            compute_logs: called without arguments when the variables in
                `metric_variables` read as their global values; returns the
                model's metrics as a dict.

        Returns:
            The logs of the global batch; the same on all replicas.
        """
        if self.num_replicas == 1:
            return logs
        assigned = list(self._assigned.values())
        self._assigned = {}
        metric_values = [tf.convert_to_tensor(v.value) for v in metric_variables]
        state = [tf.convert_to_tensor(v.value) for v in assigned]
        flat_logs = [tf.convert_to_tensor(value) for value in tf.nest.flatten(logs)]
        flat_logs = [v if v.dtype.is_floating else tf.cast(v, tf.float32) for v in flat_logs]
        means, global_metrics = self._means_and_sums(state + flat_logs, metric_values)
        for variable, mean in zip(assigned, means):
            variable.assign(mean)
        for variable, value in zip(metric_variables, global_metrics):
            copy = global_copy(variable)
            if copy is not None:
                copy.assign(value)
        logs = tf.nest.pack_sequence_as(logs, means[len(assigned) :])
        with keras.StatelessScope(state_mapping=list(zip(metric_variables, global_metrics))):
            metric_logs = compute_logs()
        if isinstance(logs, dict):
            return {name: metric_logs.get(name, value) for name, value in logs.items()}
        return logs

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


def _copied(value):
    return value.copy() if isinstance(value, (dict, list, set)) else value


class _Silent:
    """A communicator for what must not communicate."""

    def __init__(self, num_replicas):
        self.num_replicas = num_replicas

    def all_reduce(self, values):
        raise CommunicatesError


def _may_be_dense(optimizer, sparse):
    """Whether gradients that are `tf.IndexedSlices` may as well be tensors.

    Not where they are clipped: Keras clips each occurrence of a row by itself. Nor
    where tables are so large that only a few of their rows should be touched.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    clips = optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue
    shapes = [tf.TensorShape(tf.get_static_value(g.dense_shape)) for g in sparse]
    sizes = [shape.num_elements() for shape in shapes]
    return not sparse or (not clips and None not in sizes and sum(sizes) <= _DENSE_ELEMENTS)


def scaled(value, factor):
    """`value` times a scalar; NaN times 0 is 0 (a replica without examples)."""
    if isinstance(value, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.math.multiply_no_nan(value.values, factor), value.indices, value.dense_shape
        )
    return tf.math.multiply_no_nan(value, factor)


def _cast(value, dtype):
    return value if value.dtype == dtype else tf.cast(value, dtype)
