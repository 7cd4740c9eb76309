"""The masks of a model's channels: which stay, with all that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from tfdist.model_compression.channels.groups import Group, Member, zero_channels
from tfdist.model_compression.pruning.allocations.allocation import Allocation
from tfdist.model_compression.pruning.choosing import all_but
from tfdist.model_compression.pruning.criteria.criterion import Criterion
from tfdist.model_compression.pruning.masks import Masks, one_of
from tfdist.model_compression.pruning.report import PrunedBranch, PrunedChannels
from tfdist.model_compression.pruning.schedules.schedule import Schedule
from tfdist.sync.algorithm import new_variable


class ChannelMasks(Masks):
    """A bool for each channel, beside the model: False is zero with all that belongs to it.

    To it belong what makes it (the filters of all kernels whose outputs are added up, biases,
    scale and offset of a normalization) and what reads it, so that the model computes what it
    does without the channel, whatever activation stands in between. What is zero altogether
    already has gone.

    The score of a channel is the mean of the scores of its weights: those of its kernels, or what
    else the criterion scores. One channel of each group stays.

    Made in the scope of the model's strategy.

    Args:
        groups: list of `Group`.
        criterion, allocation, schedule: see `tfdist.model_compression.prune`.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        criterion: Criterion,
        allocation: Allocation,
        schedule: Schedule,
    ) -> None:
        self.groups, self._allocation = groups, allocation
        self._steps = tf.constant([step for step, _ in schedule.updates()], tf.int64)
        self._zeros = [_zeros(groups, allocation, sparsity) for _, sparsity in schedule.updates()]
        self.masks = [new_variable(tf.constant(_alive(group))) for group in groups]
        self.step = new_variable(tf.zeros([], tf.int64))
        self.changes = new_variable(tf.zeros([], tf.int64))
        members = [
            (member, number) for number, group in enumerate(groups) for member in group.members
        ]
        self._axes = _axes(members, [group.size for group in groups])
        self._members = [criterion.scored(group)[0] for group in groups]
        self._counts = [channel_sizes(one, g.size) for one, g in zip(self._members, groups)]
        variables = [m.variable for of_one in self._members for m in of_one]
        self._score_by(criterion, list({id(v): v for v in variables}.values()))

    @property
    def held(self) -> list[keras.Variable]:
        return [variable for variable, _ in self._axes]

    def kept(self) -> Iterator[tuple[keras.Variable, tf.Tensor]]:
        every = tf.concat([[True], *self.masks], 0)
        for variable, axes in self._axes:
            kept = None
            for axis, places in axes.items():
                form = [1] * len(variable.shape)
                form[axis] = -1
                along = tf.reshape(tf.reduce_all(tf.gather(every, places), 0), form)
                kept = along if kept is None else kept & along
            yield variable, kept

    def pruned(self) -> Sequence[PrunedChannels | PrunedBranch]:
        """What is masked by now, by group."""
        found = []
        for group, mask in zip(self.groups, self.masks):
            first, *others = (one.variable.path for one in group.producers)
            alive = int(np.sum(one_of(mask)))
            found.append(PrunedChannels(first, group.size, group.size - alive, others))
        return found

    def _change(self, due, step):
        values = self._values()
        scores = self._criterion.scores(values, step, self._state)
        if not self._criterion.of_groups:
            totals = zip(self._together(scores), self._counts)
            scores = [total / tf.constant(count, total.dtype) for total, count in totals]
        groups = [
            tf.where(mask, score, tf.constant(-np.inf, score.dtype))
            for mask, score in zip(self.masks, scores)
        ]
        zeros = tf.constant(self._zeros, tf.int64)[due - 1]
        for mask, kept in zip(self.masks, _kept(groups, zeros, self._allocation.joint)):
            mask.assign(kept & mask)
        self._criterion.changed(self._state, values, (), ())

    def _together(self, tensors):
        of = {id(variable): tensor for variable, tensor in zip(self._scored, tensors)}
        return [_total(one, g.size, of) for one, g in zip(self._members, self.groups)]

    def _spread(self, tensors):
        found: dict[int, tf.Tensor] = {}
        for members, tensor in zip(self._members, tensors):
            padded = tf.concat([tf.zeros([1], tensor.dtype), tensor], 0)
            for member in members:
                form = [1] * len(member.variable.shape)
                form[member.axis] = -1
                along = tf.reshape(tf.gather(padded, member.channels + 1), form)
                before = found.get(id(member.variable))
                found[id(member.variable)] = along if before is None else before + along
        return [found[id(variable)] for variable in self._scored]


def _total(members, size, tensors):
    """The sum over the weights of each channel, `(size,)`."""
    total = 0.0
    for member in members:
        others = [axis for axis in range(len(member.variable.shape)) if axis != member.axis]
        along = tf.reduce_sum(tensors[id(member.variable)], others)
        total += tf.math.unsorted_segment_sum(along, member.channels, size)
    return total


def _kept(scores, zeros, joint):
    """Of each group, which channels stay: all but the smallest; of each group the best one does."""
    if not joint:
        return [all_but(score, zeros[i]) for i, score in enumerate(scores)]
    safe = [tf.tensor_scatter_nd_update(score, [[tf.argmax(score)]], [np.inf]) for score in scores]
    return tf.split(all_but(tf.concat(safe, 0), zeros[0]), [one.shape[0] for one in scores])


def _zeros(groups, allocation, sparsity):
    """How many channels are gone at a sparsity: of each group, or of all together."""
    sizes = [group.size for group in groups]
    if allocation.joint:
        return [min(round(sparsity * sum(sizes)), sum(sizes) - len(sizes))]
    return [min(round(sparsity * size), size - 1) for size in sizes]


def _alive(group):
    zero = zero_channels(group)
    return np.ones(group.size, bool) if zero.all() else ~zero


def channel_sizes(members: Sequence[Member], size: int) -> np.ndarray:
    """How many weights of these members each channel of a group has, `(size,)`."""
    counts = np.zeros(size)
    for member in members:
        shape = member.variable.shape
        inside = member.channels[member.channels >= 0]
        each = np.prod(shape) / shape[member.axis]
        counts += each * np.bincount(inside, minlength=size)
    return counts


def _axes(members, sizes):
    """Of each variable, for each axis, where the masks of its places stand among all of them.

    Row by row, since the channels along an axis may belong to several groups (a concatenation);
    0 is a place that always stays.
    """
    starts = 1 + np.concatenate([[0], np.cumsum(sizes)])
    found: dict[int, tuple[keras.Variable, dict[int, list]]] = {}
    for member, number in members:
        _, axes = found.setdefault(id(member.variable), (member.variable, {}))
        inside = member.channels >= 0
        places = np.where(inside, member.channels + starts[number], 0)
        axes.setdefault(member.axis, []).append(places)
    return [
        (variable, {axis: np.max(rows, axis=0, keepdims=True) for axis, rows in axes.items()})
        for variable, axes in found.values()
    ]
