"""What a pass took, and what it left."""

from __future__ import annotations

import dataclasses
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
class PruningReport:
    """What was pruned, by kernel, and what was skipped, by layer, with the reason.

    Attributes:
        pruned: list of `PrunedWeight`.
        skipped: list of `Skipped`, with `name` and `reason`.
        parameters: int, all weights of the model, those that cannot be pruned, too.
    """

    pruned: list[PrunedWeight]
    skipped: list[Skipped]
    parameters: int

    @property
    def sparsity(self) -> float:
        """The part of the kernels' weights that is masked."""
        return sum(one.zeros for one in self.pruned) / sum(one.weights for one in self.pruned)

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
        lines = [f"{'kernel':<{width}}  {'weights':>10}  {'zeros':>10}  sparsity"]
        for one in self.pruned:
            counts = f"{one.weights:>10,}  {one.zeros:>10,}"
            lines.append(f"{one.name:<{width}}  {counts}  {one.sparsity:8.2%}")
        weights, zeros = (
            sum(getattr(one, key) for one in self.pruned) for key in ("weights", "zeros")
        )
        lines.append(f"{'all':<{width}}  {weights:>10,}  {zeros:>10,}  {self.sparsity:8.2%}")
        lines += [f"{one.name:<{width}}  skipped: {one.reason}" for one in self.skipped]
        return "\n".join(lines)
