"""How much is pruned, and when: one file a schedule."""

from tfdist.model_compression.pruning.schedules.constant import Constant
from tfdist.model_compression.pruning.schedules.cubic import Cubic

__all__ = ["Constant", "Cubic"]
