"""Whole filters of convolutions, and neurons."""

from __future__ import annotations

import keras

from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Filter(Structure):
    """An output of a kernel goes with all that makes it and all that reads it.

    That is its bias, the scale and offset of its normalization, the inputs of the kernels that
    follow, and the filters of other kernels that are added to it. `shrink` takes them out.
    """

    kind = "filter"
