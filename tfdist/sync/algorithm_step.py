"""A step of `fit` whose replicas agree by an algorithm of their own.

What `KerasStep` reduces is handed to the algorithm instead, with the loss scale
taken out, so that residuals of a compressor keep their unit when the scale changes.

Between synchronisations of a local algorithm nothing is sent: losses and gradients
are this replica's own means, and so are metrics, until someone sums them up.

Limits: sparse gradients are made dense where an algorithm reduces them. The denominator
of a masked loss is each replica's own in local algorithms, where the exact mean would
need a message a step.
"""

import tensorflow as tf

from tfdist.compat.optimizer import loss_scale
from tfdist.compat.variables import global_copy
from tfdist.sync.step import KerasStep, scaled


class SynchronousStep(KerasStep):
    """One replica's step with an algorithm that keeps replicas equal (a compressor).

    Args:
        parts: what of the training the algorithm sees, see `Parts`.
        communicator: a `ReplicaCommunicator`.
        replica_id: scalar int tensor.
        examples: scalar int tensor, b_r.
        global_examples: scalar int tensor, B, or None if it is not known.
        more: further arguments of `KerasStep`.
    """

    def __init__(self, parts, communicator, replica_id, examples, global_examples=None, **more):
        variables = parts.kept.variables
        super().__init__(communicator, replica_id, examples, global_examples, variables, **more)
        communicator.examples = examples
        self._parts = parts

    def reduce_gradients(self, gradients, optimizer):
        parts = self._parts
        if optimizer is not parts.optimizer or not parts.algorithm.reduces_gradients:
            return super().reduce_gradients(gradients, optimizer)
        if len(gradients) != len(parts.variables):
            raise ValueError(
                f"The optimizer was applied to {len(gradients)} gradients; a gradient-sync "
                f"callback expects one for each of the {len(parts.variables)} trainable "
                "variables of the model. Apply it to all of them at once, with None for those "
                "without a gradient."
            )
        weight = tf.cast(self.num_replicas, tf.float64)
        if id(optimizer) not in self._weighed_for:
            weight *= self.share()
        given = [
            tf.zeros(v.shape, v.dtype) if g is None else g
            for g, v in zip(gradients, parts.variables)
        ]
        means = self._by_algorithm(given, optimizer, weight)
        return [None if g is None else mean for g, mean in zip(gradients, means)]

    def _by_algorithm(self, gradients, optimizer, weight):
        """Hands contributions, which are `weight` times the gradients, to the algorithm."""
        parts, scale = self._parts, loss_scale(optimizer)
        if scale is not None:
            weight = tf.cast(weight, tf.float64) / tf.cast(scale, tf.float64)
        given = [tf.convert_to_tensor(g) for g in gradients]
        wide = [tf.cast(g, tf.float32) if g.dtype.size < 4 else g for g in given]
        # NaN times 0 is 0: a replica without examples.
        contributions = [tf.math.multiply_no_nan(g, tf.cast(weight, g.dtype)) for g in wide]
        means = parts.algorithm.reduce_gradients(parts.state, contributions, self.communicator)
        if scale is not None:
            means = [mean * tf.cast(scale, mean.dtype) for mean in means]
        return [tf.cast(mean, of.dtype) for of, mean in zip(given, means)]

    def _end_update(self, agreed):
        parts = self._parts
        parts.algorithm.after_update(parts.state, parts.variables, self.communicator)
        super()._end_update(agreed)


class LocalStep(SynchronousStep):
    """One replica's step with an algorithm whose replicas go their own ways for a while."""

    def __init__(self, parts, communicator, replica_id, examples, global_examples=None, **more):
        super().__init__(parts, communicator, replica_id, examples, global_examples, **more)
        communicator.examples = tf.cast(examples, tf.float32)
        self._kept = parts.kept.read()

    def global_examples(self):
        if self._global_examples is None:
            self._global_examples = self.num_replicas * self.examples
        return super().global_examples()

    def denominator_ratio(self, denominator):
        return tf.ones([], tf.float64)

    def weigh_loss(self, loss, optimizer):
        return self.zero_if_empty(loss)

    def reduce_gradients(self, gradients, optimizer):
        # Whichever optimizer: these algorithms keep nothing for a gradient. One of a
        # replica without examples may be NaN.
        weight = tf.cast(self.examples > 0, tf.float64)
        present = [g for g in gradients if g is not None]
        if self._parts.algorithm.reduces_gradients:
            present = self._by_algorithm(present, optimizer, weight)
        else:
            present = [scaled(g, tf.cast(weight, g.dtype)) for g in present]
        reduced = iter(present)
        return [None if g is None else next(reduced) for g in gradients]

    def finish(self, logs, extras, metric_variables):
        parts = self._parts
        parts.kept.end_step(self.examples, self._kept, self._state)
        synchronized = parts.algorithm.after_update(parts.state, parts.variables, self.communicator)
        tf.cond(synchronized, self._synchronize_layers, lambda: False)
        KerasStep._end_update(self, synchronized)
        for variable in metric_variables:
            copy = global_copy(variable)
            if copy is not None:  # this replica's, until the end of the epoch
                copy.assign(tf.convert_to_tensor(variable.value))
        return logs

    def _synchronize_layers(self):
        self._parts.kept.synchronize(self.communicator)
        return True


class Parts:
    """What of a training an algorithm sees.

    Attributes:
        algorithm: an `Algorithm`.
        state: what its `init` returned.
        optimizer: the Keras optimizer that it serves.
        variables: list of the trainable variables.
        kept: the `KeptState` of the layers.
    """

    def __init__(self, algorithm, state, optimizer, variables, kept):
        self.algorithm, self.state, self.optimizer = algorithm, state, optimizer
        self.variables, self.kept = variables, kept
