"""Global: all tensors compete."""

from __future__ import annotations

import keras

from tfdist.model_compression.pruning.allocations.allocation import Allocation


@keras.saving.register_keras_serializable(package="tfdist")
class Global(Allocation):
    """The smallest scores of the whole model go, wherever they are.

    A small tensor with small weights may lose all of them, which disconnects the model; see
    `LAMP`.
    """

    joint = True
    of_channels = True
