"""What goes together: one file a structure."""

from tfdist.model_compression.pruning.structures.block import Block
from tfdist.model_compression.pruning.structures.filter import Filter
from tfdist.model_compression.pruning.structures.head import Head
from tfdist.model_compression.pruning.structures.layer import Layer
from tfdist.model_compression.pruning.structures.n_m import NM
from tfdist.model_compression.pruning.structures.weight import Weight

__all__ = ["NM", "Block", "Filter", "Head", "Layer", "Weight"]
