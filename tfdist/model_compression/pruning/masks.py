"""The masks of a model's weights: which weights stay, in the graph of its training step."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist.model_compression.pruning.allocations.allocation import Allocation
from tfdist.model_compression.pruning.criteria.criterion import Criterion
from tfdist.model_compression.pruning.report import PrunedChannels, PrunedWeight
from tfdist.model_compression.pruning.schedules.schedule import Schedule
from tfdist.model_compression.pruning.structures.structure import Structure
from tfdist.model_compression.pruning.weights import PrunableWeight
from tfdist.sync.algorithm import new_variable


class Masks:
    """A bool for each weight, beside the model: False is zero, and stays so.

    Made in the scope of the model's strategy. What is zero already stays zero, so that a model
    that was pruned, saved and loaded has its masks again; a tensor that is zero altogether has
    not been pruned, but begins so.

    Args:
        weights: list of `PrunableWeight`.
        criterion, structure, allocation, schedule: see `tfdist.model_compression.prune`.
    """

    def __init__(
        self,
        weights: Sequence[PrunableWeight],
        criterion: Criterion,
        structure: Structure,
        allocation: Allocation,
        schedule: Schedule,
    ) -> None:
        self.weights, self._criterion = weights, criterion
        self._structure, self._allocation = structure, allocation
        self._steps, self._zeros = _table(weights, structure, allocation, schedule)
        self.masks = [new_variable(_nonzero(weight.variable.value)) for weight in weights]
        # How many steps `fit` has made, and how many changes of the masks.
        self.step = new_variable(tf.zeros([], tf.int64))
        self.changes = new_variable(tf.zeros([], tf.int64))

    @property
    def variables(self) -> list[tf.Variable]:
        """The whole state."""
        return [self.step, self.changes, *self.masks]

    def advance(self, agreed: tf.Tensor, steps: int = 1) -> None:
        """Counts a step, and changes the masks where the schedule says so; traced, on a replica.

        Args:
            agreed: scalar bool tensor, whether all replicas hold the same model; if they do
                not, the change is made as soon as they do.
            steps: 0 in front of the first step.
        """
        step = self.step.assign_add(steps)
        due = tf.searchsorted(self._steps, step[None], side="right", out_type=tf.int64)[0]

        def change():
            self._change(due, step)
            return self.changes.assign(due)

        tf.cond((due > self.changes) & agreed, change, lambda: tf.identity(self.changes))

    def hold(self, averages: dict[int, keras.Variable]) -> None:
        """Sets to zero what is masked; traced, on a replica.

        Args:
            averages: dict by a variable's id of its average, which is masked, too.
        """
        for weight, mask in zip(self.weights, self.masks):
            keep_where(mask, weight.variable, averages)

    def pruned(self) -> Sequence[PrunedWeight | PrunedChannels]:
        """What is masked by now, by kernel."""
        return [
            PrunedWeight(weight.name, weight.size, int(weight.size - np.sum(one_of(mask))))
            for weight, mask in zip(self.weights, self.masks)
        ]

    def _change(self, due, step):
        values = [tf.convert_to_tensor(weight.variable.value) for weight in self.weights]
        scores = self._criterion.scores(values, step)
        groups = []
        for weight, mask, score in zip(self.weights, self.masks, scores):
            # What has gone is worth nothing.
            known = tf.where(mask, score, tf.zeros([], score.dtype))
            groups.append(self._structure.groups(weight.as_matrix(known)))
        zeros = tf.constant(self._zeros, tf.int64)[due - 1]
        if self._allocation.joint:
            kept = _keep_jointly(self._allocation.comparable(groups), zeros[0])
        else:
            kept = [_keep(score, zeros[i]) for i, score in enumerate(groups)]
        for weight, mask, stay in zip(self.weights, self.masks, kept):
            whole = self._structure.spread(stay, weight.matrix)
            mask.assign(weight.from_matrix(whole) & mask)


def keep_where(mask, variable, averages):
    """Sets a Keras variable, and its average, to zero where `mask` is False."""
    for one in (variable, averages.get(id(variable))):
        if one is not None:
            value = one.value
            value.assign(tf.where(mask, value, tf.zeros([], value.dtype)))


def one_of(variable):
    """A variable's value, the first replica's, as an array."""
    values = getattr(variable, "values", None)
    return (values[0] if values else variable).numpy()


def _keep(scores, zeros):
    """Bool `(groups,)`: all but the `zeros` smallest; of equal ones the first go."""
    order = tf.argsort(scores, stable=True)
    return tf.cast(tf.math.invert_permutation(order), tf.int64) >= zeros


def _keep_jointly(scores, zeros):
    sizes = [score.shape[0] for score in scores]
    return tf.split(_keep(tf.concat(scores, 0), zeros), sizes)


def _nonzero(value):
    mask = tf.convert_to_tensor(value) != 0
    return mask if bool(tf.reduce_any(mask)) else tf.ones_like(mask)


def _table(weights, structure, allocation, schedule):
    """Steps at which masks change; and how many groups are zero then, of each tensor or in all."""
    shapes = [tuple(weight.variable.shape) for weight in weights]
    groups = [structure.groups(tf.zeros(weight.matrix)).shape[0] for weight in weights]
    zeros = []
    for _, sparsity in schedule.updates():
        if allocation.joint:
            zeros.append([round(sparsity * sum(groups))])
        else:
            each = allocation.sparsities(shapes, sparsity)
            zeros.append([round(part * count) for part, count in zip(each, groups)])
    steps = [step for step, _ in schedule.updates()]
    return tf.constant(steps, tf.int64), zeros
