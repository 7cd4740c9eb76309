"""What a criterion says: how much each weight is worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from tfdist.model_compression.channels.groups import Group, Member
    from tfdist.model_compression.pruning.allocations.allocation import Allocation
    from tfdist.model_compression.pruning.schedules.schedule import Schedule
    from tfdist.model_compression.pruning.structures.structure import Structure
    from tfdist.model_compression.pruning.weights import PrunableWeight

Tensors = Sequence[tf.Tensor]
State = Sequence[Sequence[tf.Variable]]  # of each weight tensor, what `init` made for it
Together = Callable[[Tensors], Tensors]


@dataclasses.dataclass(frozen=True)
class Observation:
    """A step in front of its update; lists with a tensor for each weight tensor.

    Attributes:
        values: list of float tensors, the weights; those that are masked are zero.
        gradients: list of float tensors, of the mean loss of the global batch.
        masks: list of bool tensors, which weights stay.
        together: function of a list of tensors like `values`. It returns a list of their sums
            over weights that go together, up to a factor; the same tensors where each weight
            goes for itself.
        changing: scalar bool tensor, whether masks change behind this step.
        spread: function of a list of tensors like what `together` returns: of each weight the
            sum of what stands there for the groups that it belongs to. It returns a list of
            tensors that broadcast with `values`.
    """

    values: Tensors
    gradients: Tensors
    masks: Tensors
    together: Together
    changing: tf.Tensor
    spread: Together

    def products(self) -> list[tf.Tensor]:
        """Of each weight, its gradient times its value."""
        return [gradient * value for gradient, value in zip(self.gradients, self.values)]


class Criterion:
    """Scores of weights; those with the smallest go.

    All that it keeps is in `state`, which `init` makes: a criterion serves any number of models.
    Methods but `bind`, `init` and `refusal` are traced, on each replica.

    Attributes:
        needs_gradients: whether it observes gradients. Its first change is made behind the
            first step, when there is one.
        adjusts_gradients: whether it changes those that the optimizer gets; see `adjusted`.
        reversible: whether weights that have gone may come back. While they are gone, the
            optimizer sees zeros as their gradients.
        pauses_training: whether a step behind which masks change makes no update.
        of_groups: whether scores are of what `together` returns, not of each weight.
        comparable: whether scores of different tensors may be compared.
        at_least_zero: whether scores are.
        by_threshold: whether the schedule's values are not sparsities, but thresholds that
            the scores of weights that stay exceed.
        first: the criterion of the first change, or None for itself.
        frequency: int, or None: masks also change each so many steps behind the schedule's end.
        end: int, the step behind which they do not; None for never.
    """

    needs_gradients = False
    adjusts_gradients = False
    reversible = False
    pauses_training = False
    of_groups = False
    comparable = True
    at_least_zero = True
    by_threshold = False
    first: Criterion | None = None
    frequency: int | None = None
    end: int | None = None

    def refusal(
        self, structure: Structure, allocation: Allocation, schedule: Schedule
    ) -> str | None:
        """Why it does not go with these; None if it does."""
        name = type(allocation).__name__
        if allocation.joint and not self.comparable:
            return (
                f"its scores cannot be compared between kernels, as {name} does: expected "
                '"uniform" or "erdos_renyi"'
            )
        if allocation.squares and not self.at_least_zero:
            return f'its scores may be negative, and {name} squares them: expected "global"'
        if structure.kind is not None and self.reversible:
            return 'channels that have gone do not come back: expected structure="weight"'
        return None

    def bind(
        self, model: keras.Model, weights: Sequence[PrunableWeight]
    ) -> tuple[Criterion, Sequence[str | None]]:
        """The criterion for the weights of a model, where it must look at the model first.

        Returns:
            The criterion; and for each weight why it cannot score it, or None. It is for those
            that it can.
        """
        return self, [None] * len(weights)

    def scored(self, group: Group) -> tuple[list[Member], str | None]:
        """Of a group of channels, whose weights are scored, and why none can be, or None.

        What its methods get as values are the variables of these members: kernels, mostly.
        """
        return [one for one in group.members if len(one.variable.shape) > 1], None

    def init(self, values: Tensors, together: Together) -> Sequence[Tensors]:
        """What it keeps of each weight tensor, in the beginning: lists of tensors.

        Args:
            values: list of float tensors of any shape, the weights.
            together: see `Observation`.
        """
        return [[] for _ in values]

    def observe(self, state: State, seen: Observation) -> None:
        """Sees a step, in front of its update; assigns `state`, what `init` made as variables."""

    def adjusted(self, state: State, seen: Observation) -> Tensors:
        """The gradients of a step that the optimizer gets, for each weight tensor.

        Called behind `observe`. A penalty adds its own gradient here: as those of the loss it
        is clipped and accumulated, and it has its size whatever the loss is scaled by.
        """
        return seen.gradients

    def scores(
        self, values: Tensors, step: tf.Tensor, state: State = (), masks: Tensors = ()
    ) -> list[tf.Tensor]:
        """A score for each weight.

        Args:
            values: list of float tensors of any shape, the weights.
            step: scalar int64 tensor, how many steps `fit` has made; the same on all replicas.
            state: what `init` made.
            masks: list of bool tensors, which weights stay.

        Returns:
            Finite float tensors of the same shapes and dtypes, the same on all replicas.
        """
        raise NotImplementedError

    def changed(self, state: State, values: Tensors, before: Tensors, after: Tensors) -> Tensors:
        """Masks have changed from `before` to `after`; may assign `state`.

        Returns:
            The values of all weights from here on, before they are masked: mostly `values`.
        """
        return values

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """One like that of which `get_config` returned `config`."""
        return cls(**config)


def zeros_like(values: Tensors) -> list[list[tf.Tensor]]:
    """A state of one tensor of zeros for each."""
    return [[tf.zeros_like(value)] for value in values]


def reset(state: State) -> None:
    """Makes all of a state zero."""
    for variables in state:
        for variable in variables:
            variable.assign(tf.zeros_like(variable))
