from __future__ import annotations

from typing import TYPE_CHECKING

from tfdist.callbacks.gradient_sync import GradientSyncCallback
from tfdist.sync import sync_sgd

if TYPE_CHECKING:
    from tfdist.gradient_compression.compressor import Compressor


class SyncSGD(GradientSyncCallback):
    """Synchronous training: every step all replicas apply the mean gradient.

    That is what `fit` does without a callback. This one shows what it costs
    (`sync_bytes`, `sync_seconds` in the logs), and takes a compressor, for networks
    that are slower than the computation.

    Example:

    ```python
    compressor = tfdist.gradient_compression.PowerSGD(rank=4)
    model.fit(x, y, callbacks=[tfdist.callbacks.SyncSGD(compressor=compressor)])
    ```

    Args:
        compressor: one of `tfdist.gradient_compression`; None for exact gradients.
        warmup_steps: int, so many steps at first are exact. Compressors with error
            feedback learn better so, with Adam above all.

    Raises:
        ValueError: in `fit`: another gradient-sync callback; a compressor that does
            not go with the optimizer or with a variable's dtype.
    """

    def __init__(self, compressor: Compressor | None = None, warmup_steps: int = 0) -> None:
        super().__init__(sync_sgd.SyncSGD(compressor, warmup_steps))
