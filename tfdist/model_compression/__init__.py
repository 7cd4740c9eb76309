"""How small the model gets: verbs over ordinary Keras models."""

from tfdist.model_compression.pruning import (
    LAMP,
    NM,
    Block,
    Constant,
    Cubic,
    ErdosRenyi,
    Global,
    Magnitude,
    PrunedWeight,
    Pruning,
    PruningReport,
    Random,
    Skipped,
    Uniform,
    Weight,
    prune,
)

__all__ = [
    "LAMP",
    "NM",
    "Block",
    "Constant",
    "Cubic",
    "ErdosRenyi",
    "Global",
    "Magnitude",
    "PrunedWeight",
    "Pruning",
    "PruningReport",
    "Random",
    "Skipped",
    "Uniform",
    "Weight",
    "prune",
]
