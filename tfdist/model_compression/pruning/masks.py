"""The masks of a model's weights: which weights stay, in the graph of its training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.model_compression.pruning import choosing
from tfdist.model_compression.pruning.allocations.allocation import Allocation
from tfdist.model_compression.pruning.criteria.criterion import Criterion, Observation
from tfdist.model_compression.pruning.report import PrunedBranch, PrunedChannels, PrunedWeight
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
        self.weights = weights
        self._structure, self._allocation = structure, allocation
        self._steps, self._zeros = choosing.table(weights, structure, allocation, schedule)
        self._levels = [level for _, level in schedule.updates()]
        self.masks = [new_variable(_nonzero(weight.variable.value)) for weight in weights]
        # How many steps `fit` has made, and how many changes of the masks.
        self.step = new_variable(tf.zeros([], tf.int64))
        self.changes = new_variable(tf.zeros([], tf.int64))
        self._score_by(criterion, [weight.variable for weight in weights])

    def _score_by(self, criterion, scored):
        self._criterion, self._scored = criterion, scored
        self.seen: set[int] = set()  # places of those with a gradient, in the steps traced
        begin = criterion.init(self._values(), self._together)
        self._state = [[new_variable(value) for value in of_one] for of_one in begin]

    @property
    def variables(self) -> list[tf.Variable]:
        """The whole state: two counts, the masks, and what the criterion keeps."""
        return [self.step, self.changes, *self.masks, *(v for of in self._state for v in of)]

    @property
    def held(self) -> list[keras.Variable]:
        """The variables of the model that are masked."""
        return [weight.variable for weight in self.weights]

    @property
    def needs_gradients(self) -> bool:
        return self._criterion.needs_gradients

    @property
    def begins_with_gradients(self) -> bool:
        """Whether the first change needs those of a step."""
        return (self._criterion.first or self._criterion).needs_gradients

    @property
    def looks_at_gradients(self) -> bool:
        return self._criterion.needs_gradients or self._criterion.adjusts_gradients

    def begin(self) -> None:
        """Makes the change that is due in front of the first step; traced, on a replica."""
        if not self.begins_with_gradients:
            self.advance(tf.constant(True), steps=0)

    def look(
        self, gradients: Sequence[Any], variables: Sequence[keras.Variable]
    ) -> Sequence[Any] | None:
        """Shows the criterion the gradients of an update; see `BeforeUpdate.linked`."""
        places = {id(variable): place for place, variable in enumerate(variables)}
        own = [places.get(id(variable)) for variable in self._scored]
        own = [None if i is None or gradients[i] is None else i for i in own]
        if all(place is None for place in own):
            return None
        self.seen |= {number for number, place in enumerate(own) if place is not None}
        values = self._values()
        given = [
            tf.zeros_like(value) if i is None else tf.convert_to_tensor(gradients[i])
            for value, i in zip(values, own)
        ]
        masks = [tf.convert_to_tensor(mask) for mask in self.masks]
        changing = self._due(self.step + 1) > self.changes
        seen = Observation(values, given, masks, self._together, changing, self._spread)
        self._criterion.observe(self._state, seen)
        left = list(gradients)
        for place, old, new in zip(own, given, self._criterion.adjusted(self._state, seen)):
            if place is not None and new is not old:
                left[place] = new
        return self._left_of(left, own, masks, changing)

    def _left_of(self, gradients, own, masks, changing):
        """The gradients that the optimizer gets."""
        if self._criterion.pauses_training:
            present = [tf.convert_to_tensor(g) for g in gradients if g is not None]
            kept = tf.cond(
                changing, lambda: [tf.zeros_like(g) for g in present], lambda: list(present)
            )
            rest = iter(kept)
            return [None if g is None else next(rest) for g in gradients]
        if self._criterion.reversible:
            left = list(gradients)
            for place, mask in zip(own, masks):
                if place is not None:
                    value = tf.convert_to_tensor(left[place])
                    left[place] = tf.where(mask, value, tf.zeros([], value.dtype))
            return left
        return gradients

    def check_seen(self) -> None:
        """Behind the update: raises if a kernel has no gradient; traced."""
        if self._criterion.adjusts_gradients and not self.seen:
            raise ValueError(
                f"Nothing that {type(self._criterion).__name__} puts a penalty on has a gradient "
                "in this training step: expected that the model's optimizer trains its layers."
            )
        if not self.needs_gradients:
            return
        for number, variable in enumerate(self._scored):
            if number not in self.seen:
                raise ValueError(
                    f"{variable.path!r} has no gradient in this training step, and "
                    f"{type(self._criterion).__name__} scores weights by theirs: expected that the "
                    "model's optimizer trains it. Leave its layer out with `filters`."
                )

    def advance(self, agreed: tf.Tensor, steps: int = 1) -> None:
        """Counts a step, and changes the masks where the schedule says so; traced, on a replica.

        Args:
            agreed: scalar bool tensor, whether all replicas hold the same model; if they do
                not, the change is made as soon as they do.
            steps: 0 in front of the first step.
        """
        step = self.step.assign_add(steps)
        due = self._due(step)

        def change():
            self._change(due, step)
            return self.changes.assign(due)

        tf.cond((due > self.changes) & agreed, change, lambda: tf.identity(self.changes))

    def hold(self, averages: dict[int, keras.Variable]) -> None:
        """Sets to zero what is masked; traced, on a replica.

        Args:
            averages: dict by a variable's id of its average, which is masked, too.
        """
        for variable, kept in self.kept():
            keep_where(kept, variable, averages)

    def kept(self) -> Iterator[tuple[keras.Variable, tf.Tensor]]:
        """Each masked variable, and bool of its shape, or broadcast to it: what stays."""
        for weight, mask in zip(self.weights, self.masks):
            yield weight.variable, tf.convert_to_tensor(mask)

    @property
    def change_steps(self) -> list[int]:
        """Behind how many steps the schedule changes the masks, in order."""
        return [int(step) for step in self._steps]

    def pruned(self) -> Sequence[PrunedWeight | PrunedChannels | PrunedBranch]:
        """What is masked by now, by kernel."""
        return [
            PrunedWeight(weight.name, weight.size, int(weight.size - np.sum(one_of(mask))))
            for weight, mask in zip(self.weights, self.masks)
        ]

    def _due(self, step):
        """How many changes there are up to `step`."""
        due = tf.searchsorted(self._steps, step[None], side="right", out_type=tf.int64)[0]
        criterion = self._criterion
        if criterion.frequency is None:
            return due
        until = step if criterion.end is None else tf.minimum(step, criterion.end)
        return due + tf.maximum(until - self._steps[-1], 0) // criterion.frequency

    def _change(self, due, step):
        place = tf.minimum(due, len(self._zeros)) - 1
        criterion = self._criterion
        if criterion.first is None:
            groups = self._groups(criterion, step)
        else:
            groups = tf.cond(
                tf.equal(self.changes, 0),
                lambda: self._groups(criterion.first, step),
                lambda: self._groups(criterion, step),
            )
        before = [tf.convert_to_tensor(mask) for mask in self.masks]
        after = []
        for weight, mask, stay in zip(self.weights, before, self._kept(groups, place)):
            whole = weight.from_matrix(self._structure.spread(stay, weight.matrix))
            after.append(whole if criterion.reversible else whole & mask)
        values = self._values()
        restored = criterion.changed(self._state, values, before, after)
        for variable, mask, one, value in zip(self._scored, self.masks, after, restored):
            mask.assign(one)
            if restored is not values:
                variable.value.assign(value)

    def _groups(self, criterion, step):
        """The scores of groups; minus infinity for one that has gone for good."""
        masks = [tf.convert_to_tensor(mask) for mask in self.masks]
        scores = criterion.scores(self._values(), step, self._state, masks)
        groups = []
        for weight, mask, score in zip(self.weights, masks, scores):
            gone = tf.constant(-np.inf, score.dtype)
            if criterion.of_groups and self._structure.several:
                alive = tf.where(mask, tf.zeros([], score.dtype), gone)
                groups.append(score + self._structure.groups(weight.as_matrix(alive)))
                continue
            known = score if criterion.reversible else tf.where(mask, score, gone)
            groups.append(self._structure.groups(weight.as_matrix(known)))
        return groups

    def _kept(self, groups, place):
        """Of each tensor, which groups stay."""
        if self._criterion.by_threshold:
            level = tf.constant(self._levels, tf.float64)[place]
            return [tf.cast(score, tf.float64) > level for score in groups]
        zeros = tf.constant(self._zeros, tf.int64)[place]
        if not self._allocation.joint:
            return [choosing.all_but(score, zeros[i]) for i, score in enumerate(groups)]
        gone = [score == -np.inf for score in groups]
        known = [tf.where(no, tf.zeros([], s.dtype), s) for no, s in zip(gone, groups)]
        known = self._allocation.comparable(known)
        known = [tf.where(no, tf.constant(-np.inf, s.dtype), s) for no, s in zip(gone, known)]
        return choosing.all_but_jointly(known, zeros[0])

    def _values(self):
        return [tf.convert_to_tensor(variable.value) for variable in self._scored]

    def _together(self, tensors):
        """Sums over the weights that go together, up to a factor; see `Observation`."""
        if not self._structure.several:
            return tensors
        return [self._structure.groups(w.as_matrix(t)) for w, t in zip(self.weights, tensors)]

    def _spread(self, tensors):
        """What stands for the group of each weight; see `Observation`."""
        if not self._structure.several:
            return tensors
        pairs = zip(self.weights, tensors)
        return [w.from_matrix(self._structure.spread(t, w.matrix)) for w, t in pairs]


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


def _nonzero(value):
    mask = tf.convert_to_tensor(value) != 0
    return mask if bool(tf.reduce_any(mask)) else tf.ones_like(mask)
