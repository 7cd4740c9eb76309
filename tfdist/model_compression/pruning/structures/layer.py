"""Whole layers."""

from __future__ import annotations

import keras

from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Layer(Structure):
    """A residual branch goes with all of its layers: x + f(x) becomes x.

    A branch is what a functional model computes of a tensor, and adds to that tensor by `Add` or
    `+`, if nothing else reads anything inside of it. While it is masked all of its weights are
    zero. A sparsity is a part of the branches, of which one stays at least; all of them are one
    group, whatever the allocation. `shrink` takes them out.

    Reference:
        Veit et al., Residual networks behave like ensembles of relatively shallow networks,
        1605.06431.
    """

    kind = "layer"
