"""The masks of a model's residual branches, and which of them a pass takes."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfdist.model_compression.channels.branches import Branch, as_group, branches_of
from tfdist.model_compression.channels.channels import channels_of
from tfdist.model_compression.pruning.allocations.allocation import Allocation
from tfdist.model_compression.pruning.channel_masks import ChannelMasks
from tfdist.model_compression.pruning.criteria.criterion import Criterion
from tfdist.model_compression.pruning.masks import one_of
from tfdist.model_compression.pruning.report import PrunedBranch
from tfdist.model_compression.pruning.schedules.schedule import Schedule
from tfdist.model_compression.pruning.weights import Filters, Skipped, check_model, matches
from tfdist.model_compression.shrinking.rebuild import rebuilt


class BranchMasks(ChannelMasks):
    """A bool for each branch: False has all of its weights at zero, so that it adds nothing.

    Args:
        branches: list of `Branch`.
        criterion, allocation, schedule: see `tfdist.model_compression.prune`.
    """

    def __init__(
        self,
        branches: Sequence[Branch],
        criterion: Criterion,
        allocation: Allocation,
        schedule: Schedule,
    ) -> None:
        self._branches = list(branches)
        super().__init__([as_group(self._branches)], criterion, allocation, schedule)

    def pruned(self) -> list[PrunedBranch]:
        """What is masked by now, by branch."""
        (mask,) = self.masks
        found = []
        for branch, stays in zip(self._branches, one_of(mask)):
            kernels = [kernel.path for _, kernel in branch.kernels]
            weights = sum(
                int(variable.value.shape.num_elements()) for _, variable in branch.weights
            )
            found.append(PrunedBranch(branch.name, weights, int(not stays), kernels))
        return found


def prunable_branches(
    model: keras.Model, filters: Filters = None
) -> tuple[list[Branch], list[Skipped]]:
    """The branches of a model that a pass prunes, and the sums whose branch it does not.

    As with channels a smaller copy is made on trial.

    Args:
        model: a built functional or sequential Keras model.
        filters: see `tfdist.model_compression.prune`; all layers with kernels must match.

    Raises:
        ValueError: a subclassed model.
    """
    check_model(model, filters)
    if not getattr(model, "inputs", None):
        raise ValueError(
            f'structure="layer": {model.name!r} is a {type(model).__name__}, a subclassed model, '
            "and what its `call` adds up is not known. Expected a functional or sequential model."
        )
    branches, skipped = branches_of(model)
    found = []
    for branch in branches:
        reason = _refusal(branch, filters)
        if reason is None:
            found.append(branch)
        else:
            skipped.append(Skipped(branch.name, reason))
    if not found:
        return [], skipped
    kept, fixed = _that_can_go(model, channels_of(model), found)
    return kept, skipped + fixed


def _that_can_go(model, channels, branches):
    """Those without which the model can be made anew: all together, or else one by one."""
    try:
        rebuilt(model, channels, set(), branches)
    except Exception as error:  # whatever a layer raises that cannot be so
        if len(branches) == 1:
            reason = str(error).strip().splitlines()[0]
            return [], [Skipped(branches[0].name, f"without it, {reason}")]
        each = [_that_can_go(model, channels, [branch]) for branch in branches]
        return [one for kept, _ in each for one in kept], [one for _, no in each for one in no]
    return branches, []


def _refusal(branch, filters):
    for layer, _ in branch.kernels:
        if not matches(layer, filters):
            return f"filters leave {layer.name} out"
        if getattr(layer, "quantization_mode", None) is not None:
            return f"{layer.name} is quantized; prune first, quantize then"
    for layer in branch.layers:
        if not layer.trainable:
            return f"{layer.name} is not trainable"
    return None
