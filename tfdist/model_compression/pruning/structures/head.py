"""Whole heads of attention."""

from __future__ import annotations

import keras

from tfdist.model_compression.pruning.structures.structure import Structure


@keras.saving.register_keras_serializable(package="tfdist")
class Head(Structure):
    """A head goes with its queries, keys, values and what reads it.

    Of `MultiHeadAttention`, and of `GroupQueryAttention`, where a key and value head goes with
    the query heads of its group. `shrink` takes them out.

    Reference:
        Michel et al., Are sixteen heads really better than one?, 1905.10650.
    """

    kind = "head"
