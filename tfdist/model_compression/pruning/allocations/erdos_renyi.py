"""Erdős-Rényi-kernel: large tensors give more."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from tfdist.model_compression.pruning.allocations.allocation import Allocation


@keras.saving.register_keras_serializable(package="tfdist")
class ErdosRenyi(Allocation):
    """What stays of a tensor is proportional to the sum of its dimensions over their product.

        density_l = epsilon (sum of dimensions_l) / (product of dimensions_l)

    with the epsilon that gives the sparsity of the whole; where a density would be above 1 the
    tensor stays dense, and the others give more. The window of a convolution counts among
    the dimensions (Erdős-Rényi-kernel).

    References:
        Mocanu et al., 1707.04780; Evci et al., Rigging the lottery, 1911.11134.
    """

    def sparsities(self, shapes: Sequence[Sequence[int]], sparsity: float) -> list[float]:
        sizes = [math.prod(shape) for shape in shapes]
        raw = [sum(shape) / size for shape, size in zip(shapes, sizes)]
        kept = (1 - sparsity) * sum(sizes)
        dense: set[int] = set()  # which tensors stay whole
        while True:
            rest = kept - sum(sizes[i] for i in dense)
            weight = sum(raw[i] * sizes[i] for i in range(len(sizes)) if i not in dense)
            epsilon = rest / weight if weight else 0.0
            above = {i for i in range(len(sizes)) if i not in dense and epsilon * raw[i] > 1}
            if not above:
                break
            dense |= above
        return [0.0 if i in dense else 1 - epsilon * raw[i] for i in range(len(sizes))]
