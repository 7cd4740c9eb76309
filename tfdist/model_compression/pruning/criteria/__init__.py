"""What a weight is worth: one file a criterion."""

from tfdist.model_compression.pruning.criteria.magnitude import Magnitude
from tfdist.model_compression.pruning.criteria.random import Random

__all__ = ["Magnitude", "Random"]
