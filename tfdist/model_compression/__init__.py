"""How small the model gets: verbs over ordinary Keras models."""

from tfdist.model_compression.distillation import Distiller
from tfdist.model_compression.pruning.allocations import LAMP, ErdosRenyi, Global, Uniform
from tfdist.model_compression.pruning.callback import Pruning
from tfdist.model_compression.pruning.criteria import (
    L1,
    L2,
    SNIP,
    GroupSparsity,
    Magnitude,
    Movement,
    Random,
    RigL,
    Slimming,
    SoftMovement,
    Taylor,
    Wanda,
)
from tfdist.model_compression.pruning.prune import prune
from tfdist.model_compression.pruning.report import (
    PrunedBranch,
    PrunedChannels,
    PrunedWeight,
    PruningReport,
)
from tfdist.model_compression.pruning.schedules import Constant, Cubic
from tfdist.model_compression.pruning.structures import NM, Block, Filter, Head, Layer, Weight
from tfdist.model_compression.pruning.weights import Skipped
from tfdist.model_compression.reporting.compression_report import CompressionReport
from tfdist.model_compression.reporting.report import report
from tfdist.model_compression.shrinking.shrink import shrink

__all__ = [
    "L1",
    "L2",
    "LAMP",
    "NM",
    "SNIP",
    "Block",
    "CompressionReport",
    "Constant",
    "Cubic",
    "Distiller",
    "ErdosRenyi",
    "Filter",
    "Global",
    "GroupSparsity",
    "Head",
    "Layer",
    "Magnitude",
    "Movement",
    "PrunedBranch",
    "PrunedChannels",
    "PrunedWeight",
    "Pruning",
    "PruningReport",
    "Random",
    "RigL",
    "Skipped",
    "Slimming",
    "SoftMovement",
    "Taylor",
    "Uniform",
    "Wanda",
    "Weight",
    "prune",
    "report",
    "shrink",
]
