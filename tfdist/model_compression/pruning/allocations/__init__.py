"""Where it is pruned: one file an allocation."""

from tfdist.model_compression.pruning.allocations.erdos_renyi import ErdosRenyi
from tfdist.model_compression.pruning.allocations.lamp import LAMP
from tfdist.model_compression.pruning.allocations.overall import Global
from tfdist.model_compression.pruning.allocations.uniform import Uniform

__all__ = ["LAMP", "ErdosRenyi", "Global", "Uniform"]
