"""`prune`: an ordinary Keras model, and a callback that prunes it while `fit` trains it."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfdist.model_compression import by_name
from tfdist.model_compression.channels.groups import Group
from tfdist.model_compression.pruning import allocations, criteria, schedules, structures
from tfdist.model_compression.pruning.allocations.allocation import Allocation
from tfdist.model_compression.pruning.branch_masks import BranchMasks, prunable_branches
from tfdist.model_compression.pruning.callback import Pruning
from tfdist.model_compression.pruning.channel_masks import ChannelMasks
from tfdist.model_compression.pruning.criteria.criterion import Criterion
from tfdist.model_compression.pruning.masks import Masks
from tfdist.model_compression.pruning.prunable_groups import prunable_groups
from tfdist.model_compression.pruning.schedules.schedule import Schedule
from tfdist.model_compression.pruning.structures.structure import Structure
from tfdist.model_compression.pruning.weights import Filters, PrunableWeight, Skipped, weights_of

CRITERIA = {
    "magnitude": criteria.Magnitude,
    "l1": criteria.L1,
    "l2": criteria.L2,
    "random": criteria.Random,
    "taylor": criteria.Taylor,
    "snip": criteria.SNIP,
    "movement": criteria.Movement,
    "soft_movement": criteria.SoftMovement,
    "rigl": criteria.RigL,
    "wanda": criteria.Wanda,
    "slimming": criteria.Slimming,
    "group_sparsity": criteria.GroupSparsity,
}
STRUCTURES = {
    "weight": structures.Weight,
    "2:4": structures.NM,
    "block": structures.Block,
    "filter": structures.Filter,
    "head": structures.Head,
    "layer": structures.Layer,
}
ALLOCATIONS = {
    "uniform": allocations.Uniform,
    "erdos_renyi": allocations.ErdosRenyi,
    "global": allocations.Global,
    "lamp": allocations.LAMP,
}
SCHEDULES = {"constant": schedules.Constant, "cubic": schedules.Cubic}


def prune(
    model: keras.Model,
    criterion: str | Criterion = "magnitude",
    structure: str | Structure = "weight",
    schedule: Schedule | None = None,
    allocation: str | Allocation = "uniform",
    filters: Filters = None,
    rewind_to: int | None = None,
) -> Pruning:
    """Prepares a model for pruning; `fit` with the callback that it returns prunes it.

    The model stays as it is: names, `summary()`, `count_params()`, its file. Masks stand beside
    it and are applied behind each update, on all replicas alike, also by a later `fit` without
    the callback. In a file they are the zeros: who prunes a loaded model again keeps them.

    Example:

    >>> import keras, numpy, tfdist
    >>> compression = tfdist.model_compression
    >>> with tfdist.auto_strategy().scope():
    ...     model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    ...     model.compile("sgd", "mse")
    >>> pruning = compression.prune(model, schedule=compression.Constant(final=0.75, begin=2))
    >>> x, y = numpy.ones((64, 8)), numpy.ones((64, 10))
    >>> history = model.fit(x, y, batch_size=16, verbose=0, callbacks=[pruning])
    >>> int((model.layers[0].kernel.numpy() == 0).sum())
    60

    Args:
        model: a built Keras model of any kind, made in the scope of its strategy.
        criterion: what a weight is worth: "magnitude", "l1", "l2", "random"; by gradients,
            which are reduced over replicas first, "taylor", "snip", "movement",
            "soft_movement", "rigl"; of filters also "slimming" and "group_sparsity", which
            drive them to zero by a penalty; or an object, as `Wanda(x)`.
        structure: what goes together: "weight", "2:4" (of each four inputs of an output two),
            "block" (`Block(4, 1)`), "filter" (a filter or a neuron with all that belongs to it),
            "head" (of attention), "layer" (a residual branch), or an object. `shrink` takes
            filters, heads and layers out.
        schedule: how much, and when: `Constant` or `Cubic`. Defaults to what is zero already,
            held there; of "2:4" to half from the first step on.
        allocation: where: "uniform" (the same part of each kernel, the first and the last
            layer's included), "erdos_renyi", "global", "lamp", or an object.
        filters: which layers, as `keras.Model.quantize` takes it: a regular expression or
            several, searched in their names, or a function of a layer.
        rewind_to: int, behind how many steps of `fit` the weights are kept that
            `Pruning.rewind()` goes back to; 0: in front of the first. Defaults to none.

    Returns:
        A `Pruning` callback; its `report()` says what went, and which layers were skipped, and
        why.

    Raises:
        ValueError: there is nothing to prune; a sparsity that the structure cannot have.
        TypeError: an argument is of another kind.
    """
    criterion = by_name.get("criterion", criterion, CRITERIA)
    structure = by_name.get("structure", structure, STRUCTURES)
    allocation = by_name.get("allocation", allocation, ALLOCATIONS)
    if schedule is None:
        schedule = schedules.Constant(structure.fixed or 0.0)
    schedule = by_name.get("schedule", schedule, SCHEDULES)
    if structure.fixed is not None and abs(schedule.final - structure.fixed) > 1e-9:
        raise ValueError(
            f"{type(schedule).__name__}(final={schedule.final}): this structure has a sparsity of "
            f"{structure.fixed} and no other. Leave the schedule out, or pass final="
            f"{structure.fixed}."
        )
    if structure.kind is not None and not allocation.of_channels:
        raise ValueError(
            f"{type(allocation).__name__} is an allocation of single weights: expected "
            '"uniform" or "global" for whole channels.'
        )
    reason = criterion.refusal(structure, allocation, schedule)
    if reason is not None:
        raise ValueError(f"criterion={type(criterion).__name__}: {reason}.")
    if structure.kind is None:
        weights, skipped = weights_of(model, filters)
        weights, unfit = _fitting(weights, [structure.refusal(one.matrix) for one in weights])
        bound, reasons = criterion.bind(model, weights)
        weights, unseen = _fitting(weights, reasons)
        skipped = skipped + unfit + unseen
        found: Sequence = weights
    elif structure.kind == "layer":
        branches, skipped = prunable_branches(model, filters)
        found = branches
    else:
        groups, skipped = prunable_groups(model, structure.kind, filters)
        groups, unfit = _scored(groups, criterion)
        found, skipped = groups, skipped + unfit
    if not found:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in skipped)
        raise ValueError(f"Nothing of {model.name!r} can be pruned: {reasons}.")

    def make_masks():
        if structure.kind is None:
            return Masks(weights, bound, structure, allocation, schedule)
        if structure.kind == "layer":
            return BranchMasks(branches, criterion, allocation, schedule)
        return ChannelMasks(groups, criterion, allocation, schedule)

    settings = {
        "criterion": criterion,
        "structure": structure,
        "schedule": schedule,
        "allocation": allocation,
    }
    return Pruning(model, make_masks, skipped, settings, rewind_to)


def _scored(groups: Sequence[Group], criterion: Criterion) -> tuple[list[Group], list[Skipped]]:
    """The groups that the criterion can score, and the others with the reason."""
    reasons = [criterion.scored(group)[1] for group in groups]
    unfit = [Skipped(group.name, one) for group, one in zip(groups, reasons) if one is not None]
    return [group for group, one in zip(groups, reasons) if one is None], unfit


def _fitting(
    weights: Sequence[PrunableWeight], reasons: Sequence[str | None]
) -> tuple[list[PrunableWeight], list[Skipped]]:
    """The weights that nothing speaks against, and the others with the reason."""
    pairs = list(zip(weights, reasons))
    unfit = [Skipped(weight.name, reason) for weight, reason in pairs if reason is not None]
    return [weight for weight, reason in pairs if reason is None], unfit
