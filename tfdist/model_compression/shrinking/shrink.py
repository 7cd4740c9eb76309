"""`shrink`: the smaller model that is left when what was pruned is taken out."""

from __future__ import annotations

import contextlib

import keras
import numpy as np

from tfdist.compat import trainer as compat_trainer
from tfdist.model_compression.channels.branches import Branch, branches_of
from tfdist.model_compression.channels.channels import Channels, channels_of
from tfdist.model_compression.channels.groups import groups_of, zero_channels
from tfdist.model_compression.shrinking.check import check_same_outputs
from tfdist.model_compression.shrinking.rebuild import places_kept, rebuilt
from tfdist.model_compression.shrinking.training import compile_like


def shrink(model: keras.Model) -> keras.Model:
    """A smaller model that computes the same: without the filters, neurons and heads pruned.

    What `prune` with a structure of "filter" or "head" has set to zero is taken out for real, and
    with it all that belongs to it: biases, the scale, offset and statistics of normalizations,
    and the inputs of the layers that follow. Of "layer" a residual branch goes with its layers
    and its sum. Other layers keep their names. A compiled model gives one that is compiled
    alike, and whose optimizer goes on from the same state.

    Before it is returned, both models predict the same random inputs, and must agree.

    Example:

    >>> import keras, numpy, tfdist
    >>> compression = tfdist.model_compression
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(10, "relu"), keras.layers.Dense(3)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> half = compression.Constant(final=0.5)
    >>> pruning = compression.prune(model, criterion="l2", structure="filter", schedule=half)
    >>> x, y = numpy.ones((16, 8)), numpy.ones((16, 3))
    >>> history = model.fit(x, y, verbose=0, callbacks=[pruning])
    >>> small = compression.shrink(model)
    >>> [tuple(layer.kernel.shape) for layer in small.layers]
    [(8, 5), (5, 3)]

    Args:
        model: a functional or sequential Keras model, with nested ones or without, that was
            pruned; also one that was saved and loaded since.

    Returns:
        A new Keras model, made in the scope of the strategy of `model`.

    Raises:
        ValueError: nothing can be taken out; a layer cannot be made smaller.
        TypeError: a subclassed model, whose `call` nobody but its author can write anew.
    """
    _check_kind(model)
    channels = channels_of(model)
    gone, branches = pruned_channels(model, channels), pruned_branches(model)
    if not gone and not branches:
        raise ValueError(
            f"Nothing of {model.name!r} can be taken out: no filter, neuron, head or residual "
            'branch is zero with all that belongs to it. Prune it with `structure="filter"`, '
            '"head" or "layer" first; zeros of single weights leave the shapes as they are.'
        )
    strategy = compat_trainer.strategy_of(model)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        small, origin = rebuilt(model, channels, gone, branches)
        kept = places_kept(channels, gone)
        for new in small.variables:
            old = origin[id(new)]
            new.assign(sliced(old, old.numpy(), kept))
        compile_like(model, small, kept, origin)
    check_same_outputs(model, small)
    return small


def sliced(variable, value, kept):
    """What stays of a variable's value, an array."""
    for axis in range(value.ndim):
        places = kept.get((id(variable), axis))
        if places is not None:
            value = np.compress(places, value, axis)
    return value


def pruned_channels(model: keras.Model, channels: Channels) -> set[int]:
    """The channels of which all that belongs to them is zero; of each group one stays."""
    gone: set[int] = set()
    for kind in ("filter", "head"):
        for group in groups_of(model, channels, kind)[0]:
            zero = zero_channels(group)
            if zero.all():
                zero[0] = False
            for member in group.members:
                own = channels.of[id(member.variable), member.axis]
                inside = member.channels >= 0
                dead = inside & zero[np.where(inside, member.channels, 0)]
                gone |= {int(channel) for channel in own[dead]}
    return gone


def pruned_branches(model: keras.Model) -> list[Branch]:
    """The residual branches of which all weights are zero; one of all branches stays."""
    branches, _ = branches_of(model)
    zero = [branch for branch in branches if branch.is_zero]
    return zero[1:] if len(zero) == len(branches) else zero


def _check_kind(model):
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r}: expected a Keras model.")
    if not getattr(model, "inputs", None):
        raise TypeError(
            f"{model.name!r} is a {type(model).__name__}, a subclassed model: its `call` would "
            "have to be written anew. Expected a functional or sequential model; make it of "
            "layers that a functional model calls, or shrink the functional parts in it."
        )
