"""What a pass took, and what it left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tfdist.model_compression.pruning.weights import Skipped


@dataclasses.dataclass(frozen=True)
class PrunedWeight:
    """One kernel after a pass.

    Attributes:
        name: the variable's path.
        weights: int, how many it has.
        zeros: int, how many of them are masked.
    """

    name: str
    weights: int
    zeros: int

    @property
    def sparsity(self) -> float:
        return self.zeros / self.weights


@dataclasses.dataclass(frozen=True)
class PrunedChannels:
    """Channels that go together, after a pass.

    Attributes:
        name: the path of the kernel that makes them.
        channels: int, how many can go; one of them stays at least.
        zeros: int, how many are masked.
        others: list of str, the paths of further kernels that make the same channels, as in a
            residual sum.
    """

    name: str
    channels: int
    zeros: int
    others: list[str]

    @property
    def sparsity(self) -> float:
        return self.zeros / self.channels


@dataclasses.dataclass(frozen=True)
class PrunedBranch:
    """A residual branch after a pass.

    Attributes:
        name: the name of the sum at its end.
        weights: int, how many it has, biases and normalizations included.
        zeros: int, 1 where it is masked, else 0.
        kernels: list of str, the paths of its kernels.
    """

    name: str
    weights: int
    zeros: int
    kernels: list[str]

    @property
    def sparsity(self) -> float:
        return float(self.zeros)


@dataclasses.dataclass(frozen=True)
class PruningReport:
    """What was pruned, by kernel, and what was skipped, by layer, with the reason.

    Attributes:
        pruned: list of `PrunedWeight`; of filters and heads of `PrunedChannels`, of layers of
            `PrunedBranch`.
        skipped: list of `Skipped`, with `name` and `reason`.
        parameters: int, all weights of the model, those that cannot be pruned, too.
    """

    pruned: Sequence[PrunedWeight | PrunedChannels | PrunedBranch]
    skipped: list[Skipped]
    parameters: int

    @property
    def sparsity(self) -> float:
        """The part of the kernels' weights, the channels or the branches that is masked."""
        return sum(one.zeros for one in self.pruned) / sum(map(_size, self.pruned))

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pruned": [
                {**dataclasses.asdict(one), "sparsity": one.sparsity} for one in self.pruned
            ],
            "skipped": [dataclasses.asdict(one) for one in self.skipped],
            "parameters": self.parameters,
            "sparsity": self.sparsity,
        }

    def __str__(self) -> str:
        names = [one.name for one in self.pruned] + [one.name for one in self.skipped]
        width = max(map(len, names))
        what = _WORDS[type(self.pruned[0])]
        lines = [f"{'kernel':<{width}}  {what:>10}  {'zeros':>10}  sparsity"]
        for one in self.pruned:
            counts = f"{_size(one):>10,}  {one.zeros:>10,}"
            others = getattr(one, "others", [])
            also = f"  with {', '.join(others)}" if others else ""
            lines.append(f"{one.name:<{width}}  {counts}  {one.sparsity:8.2%}{also}")
        zeros = sum(one.zeros for one in self.pruned)
        counts = f"{sum(map(_size, self.pruned)):>10,}  {zeros:>10,}"
        lines.append(f"{'all':<{width}}  {counts}  {self.sparsity:8.2%}")
        lines += [f"{one.name:<{width}}  skipped: {one.reason}" for one in self.skipped]
        return "\n".join(lines)


_WORDS = {PrunedWeight: "weights", PrunedChannels: "channels", PrunedBranch: "branches"}


def _size(one):
    if isinstance(one, PrunedBranch):
        return 1
    return one.channels if isinstance(one, PrunedChannels) else one.weights
