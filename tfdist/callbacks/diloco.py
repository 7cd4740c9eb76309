from __future__ import annotations

from typing import TYPE_CHECKING

from tfdist.callbacks.gradient_sync import GradientSyncCallback
from tfdist.sync import diloco

if TYPE_CHECKING:
    import keras

    from tfdist.gradient_compression.compressor import Compressor


class DiLoCo(GradientSyncCallback):
    """DiLoCo: local training, and every `period` steps an outer optimizer's step.

    What replicas have changed since the last common model is averaged, and an outer
    optimizer takes it for a gradient. With its Nesterov momentum periods may be much
    longer than those of local SGD. Validation, callbacks at the end of an epoch, and
    whoever uses the model after `fit` see the average of the replicas' models.

    Example:

    ```python
    model.fit(x, y, callbacks=[tfdist.callbacks.DiLoCo(period=50)])
    ```

    Args:
        period: int, steps between two outer steps.
        outer_optimizer: any Keras optimizer, which is copied. Defaults to SGD with
            learning rate 0.7 and Nesterov momentum 0.9.
        fragments: int, at most `period`: the model is sent in so many parts, one every
            `period / fragments` steps (streaming DiLoCo).
        compressor: one of `tfdist.gradient_compression` for what is sent, or None.

    Raises:
        ValueError: an argument is out of range; in `fit`: more fragments than trainable
            variables, another gradient-sync callback, a compressor that does not serve.

    References:
        Douillard et al., 2311.08105; streaming: 2501.18512. The equations are in
        `tfdist.sync.diloco`.
    """

    def __init__(
        self,
        period: int,
        outer_optimizer: keras.optimizers.Optimizer | None = None,
        fragments: int = 1,
        compressor: Compressor | None = None,
    ) -> None:
        super().__init__(diloco.DiLoCo(period, outer_optimizer, fragments, compressor))
