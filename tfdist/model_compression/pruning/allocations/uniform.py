"""The same sparsity everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfdist.model_compression.pruning.allocations.allocation import Allocation


@keras.saving.register_keras_serializable(package="tfdist")
class Uniform(Allocation):
    """Each tensor gives the same part of its weights, the first and the last layer's, too."""

    of_channels = True

    def sparsities(self, shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
        return [sparsity] * len(shapes)
