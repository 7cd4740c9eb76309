"""The groups of channels that `prune` may take, and `shrink` can take out."""

from __future__ import annotations

import keras

from tfdist.model_compression.channels.channels import Channels, channels_of
from tfdist.model_compression.channels.groups import Group, groups_of
from tfdist.model_compression.pruning.weights import Filters, Skipped, check_model
from tfdist.model_compression.shrinking.rebuild import rebuilt


def prunable_groups(
    model: keras.Model, kind: str, filters: Filters = None
) -> tuple[list[Group], list[Skipped]]:
    """The groups of a model that a pass prunes, and the kernels that it does not.

    A smaller copy of the model is made on trial, without half of the channels of each group:
    what the layers' configurations cannot express is skipped now, and not when it was trained.
    A subclassed model can only be masked, so there is no trial.

    Args:
        model: a built Keras model.
        kind: "filter" or "head".
        filters: see `tfdist.model_compression.prune`.
    """
    check_model(model, filters)
    channels = channels_of(model)
    groups, skipped = groups_of(model, channels, kind, filters)
    groups, alone = _of_several(groups)
    if getattr(model, "inputs", None):
        groups, fixed = _that_can_go(model, channels, groups)
        skipped = skipped + fixed
    return groups, skipped + alone


def _of_several(groups):
    several = [group for group in groups if group.size > 1]
    alone = [Skipped(g.name, "it makes one channel, which stays") for g in groups if g.size == 1]
    return several, alone


def _that_can_go(
    model: keras.Model, channels: Channels, groups: list[Group]
) -> tuple[list[Group], list[Skipped]]:
    """Those without which the model can be made anew, found by halves where one cannot."""
    if not groups:
        return [], []
    gone: set[int] = set()
    for group in groups:
        gone |= channels_gone(channels, group)
    try:
        rebuilt(model, channels, gone)
    except Exception as error:  # whatever a layer raises that cannot be so
        if len(groups) == 1:
            reason = str(error).strip().splitlines()[0]
            return [], [Skipped(groups[0].name, f"without it, {reason}")]
        middle = len(groups) // 2
        first, second = groups[:middle], groups[middle:]
        (one, reasons), (other, more) = (_that_can_go(model, channels, g) for g in (first, second))
        return one + other, reasons + more
    return groups, []


def channels_gone(channels: Channels, group: Group) -> set[int]:
    """The first half of a group's channels."""
    found: set[int] = set()
    for member in group.members:
        own = channels.of[id(member.variable), member.axis]
        half = (member.channels >= 0) & (member.channels < group.size // 2)
        found |= {int(channel) for channel in own[half]}
    return found
