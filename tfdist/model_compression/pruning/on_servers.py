"""Pruning with parameter servers, where workers see different weights at the same time.

A mask that each step applied to the servers' weights would overwrite what other workers add to
them. So a step only leaves out what is masked of its gradients, and the coordinator changes masks
when no step is out: it sets to zero the weights that go, their averages, and what the optimizer
remembers of them, so that no later update moves them.

Limits: the steps are counted as the coordinator has them begun. An optimizer whose update of a
weight looks at the gradients of others (Muon) would move masked ones: refused.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat.optimizer_slots import averages_of, slots_of
from tfdist.model_compression.pruning.links import keep
from tfdist.model_compression.pruning.masks import Masks, keep_where, one_of


class OnServers:
    """Masks that the coordinator changes.

    Args:
        strategy: the `ParameterServerStrategy`.
        model: the Keras model that is pruned.
        masks: its `Masks`.
    """

    def __init__(self, strategy: Any, model: keras.Model, masks: Masks) -> None:
        if masks.looks_at_gradients:
            raise ValueError(
                "The criterion scores weights by gradients, and with parameter servers each worker "
                'has its own: expected a criterion that needs none, as "magnitude".'
            )
        self._strategy, self._model, self._masks = strategy, model, masks
        stack = contextlib.ExitStack()
        stack.enter_context(strategy.before_update(model).linked(self._without_masked))
        keep(model, masks, stack)
        self._count = self._changes = 0
        self._last = -1  # the batch of the epoch that was counted last

    def check(self, trained: keras.Model) -> None:
        """Raises ValueError where masks would not hold in a `fit` of `trained`."""
        if trained is not self._model:
            raise ValueError(
                f"{self._model.name!r} is pruned and inside of {trained.name!r}, which is trained "
                "with parameter servers: expected another strategy, or `prune` of the outer one."
            )
        optimizer = self._model.optimizer
        if isinstance(getattr(optimizer, "inner_optimizer", optimizer), keras.optimizers.Muon):
            raise ValueError(
                "Muon's update of a weight looks at the gradients of others, so that masked ones "
                "would move on the parameter servers: expected another optimizer."
            )

    def begin(self) -> None:
        """Makes the changes that are due in front of the first step."""
        self._count, self._changes = (
            int(one_of(one)) for one in (self._masks.step, self._masks.changes)
        )
        self._masks.begin()
        self._hold()
        self._changes = int(one_of(self._masks.changes))

    def begin_epoch(self) -> None:
        self._last = -1

    def count(self, batch: int) -> None:
        """Counts the steps up to `batch` of the epoch; changes the masks where that is due."""
        steps, self._last = batch - self._last, batch
        self._count += steps
        if bisect.bisect_right(self._masks.change_steps, self._count) <= self._changes:
            return
        self._strategy.settle(self._model)
        self.save_count()
        self._masks.advance(tf.constant(True), steps=0)
        self._hold()
        self._changes = int(one_of(self._masks.changes))

    def save_count(self) -> None:
        """Puts the count where a checkpoint finds it."""
        self._masks.step.assign(self._count)

    def _hold(self):
        optimizer = self._model.optimizer
        averages = averages_of(optimizer)
        self._masks.hold(averages)
        if optimizer is None or not optimizer.built:
            return
        kept = {id(variable): mask for variable, mask in self._masks.kept()}
        variables = {id(slot): slot for slot in optimizer.variables}
        for slot, variable in slots_of(optimizer).items():
            mask = kept.get(id(variable))
            if mask is not None and variables[slot].shape == variable.shape:
                keep_where(mask, variables[slot], {})

    def _without_masked(
        self, gradients: Sequence[Any], variables: Sequence[keras.Variable]
    ) -> Sequence[Any]:
        kept = {id(variable): mask for variable, mask in self._masks.kept()}
        found = []
        for gradient, variable in zip(gradients, variables):
            mask = kept.get(id(variable))
            if mask is not None and gradient is not None:
                gradient = tf.convert_to_tensor(gradient)
                gradient = tf.where(mask, gradient, tf.zeros([], gradient.dtype))
            found.append(gradient)
        return found
