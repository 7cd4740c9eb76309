"""What a weight is worth: one file a criterion."""

from tfdist.model_compression.pruning.criteria.magnitude import Magnitude
from tfdist.model_compression.pruning.criteria.norm import L1, L2
from tfdist.model_compression.pruning.criteria.random import Random

__all__ = ["L1", "L2", "Magnitude", "Random"]
