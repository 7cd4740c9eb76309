from tfdist.callbacks.gradient_sync import GradientSyncCallback
from tfdist.sync import local_sgd


class LocalSGD(GradientSyncCallback):
    """Local SGD: each replica trains by itself; every `period` steps models are averaged.

    Sends the model once in `period` steps, instead of the gradients in each. Works
    with every Keras optimizer, whose momenta stay each replica's own. Validation,
    callbacks at the end of an epoch, and whoever uses the model after `fit` see the
    average; batch logs are those of each worker, the logs of an epoch are global.

    Example:

    ```python
    model.fit(x, y, callbacks=[tfdist.callbacks.LocalSGD(period=16)])
    ```

    Args:
        period: int, steps between two averages. 1 with SGD is synchronous SGD.
        warmup_steps: int, so many steps at first are synchronous (post-local SGD).
        slow_momentum: float in [0, 1), momentum of the sequence of averages; 0 for none.
        slow_learning_rate: float, the rate that goes with it.

    Raises:
        ValueError: an argument is out of range; in `fit`: another gradient-sync callback.

    References:
        Stich, 1805.09767; post-local: Lin et al., 1808.07217; slow momentum: Wang et
        al., 1910.00643. The equations are in `tfdist.sync.local_sgd`.
    """

    def __init__(
        self,
        period: int,
        warmup_steps: int = 0,
        slow_momentum: float = 0.0,
        slow_learning_rate: float = 1.0,
    ) -> None:
        super().__init__(
            local_sgd.LocalSGD(period, warmup_steps, slow_momentum, slow_learning_rate)
        )
