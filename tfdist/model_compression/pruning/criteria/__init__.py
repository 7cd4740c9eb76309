"""What a weight is worth: one file a criterion."""

from tfdist.model_compression.pruning.criteria.group_sparsity import GroupSparsity
from tfdist.model_compression.pruning.criteria.magnitude import Magnitude
from tfdist.model_compression.pruning.criteria.movement import Movement
from tfdist.model_compression.pruning.criteria.norm import L1, L2
from tfdist.model_compression.pruning.criteria.random import Random
from tfdist.model_compression.pruning.criteria.rigl import RigL
from tfdist.model_compression.pruning.criteria.slimming import Slimming
from tfdist.model_compression.pruning.criteria.snip import SNIP
from tfdist.model_compression.pruning.criteria.soft_movement import SoftMovement
from tfdist.model_compression.pruning.criteria.taylor import Taylor
from tfdist.model_compression.pruning.criteria.wanda import Wanda

__all__ = [
    "L1",
    "L2",
    "SNIP",
    "GroupSparsity",
    "Magnitude",
    "Movement",
    "Random",
    "RigL",
    "Slimming",
    "SoftMovement",
    "Taylor",
    "Wanda",
]
