from tfdist.callbacks.gradient_sync import GradientSyncCallback
from tfdist.sync import partial_sync


class PartialSync(GradientSyncCallback):
    """Partial synchronisation: each step, replicas average gradients in small groups.

    Groups change each step, so that every pair meets; all models are averaged every
    `resync_every` steps. A worker sends to its group, and waits for its group, only: a
    slow worker still holds up its own. With one group of all it is synchronous SGD.

    Example:

    ```python
    model.fit(x, y, callbacks=[tfdist.callbacks.PartialSync(group_size=2, resync_every=16)])
    ```

    Args:
        group_size: int from 2 to the number of replicas.
        resync_every: int, steps between two averages of all models.
        seed: int of at least 0, of the table of groups; the same on all workers.

    Raises:
        ValueError: an argument is out of range; in `fit`: a group larger than the number
            of replicas, another gradient-sync callback.

    References:
        The equations, and what is saved, are in `tfdist.sync.partial_sync`. Groups formed by
        who is ready first: Miao et al., "Heterogeneity-aware distributed machine learning
        training via partial reduce", SIGMOD 2021.
    """

    def __init__(self, group_size: int, resync_every: int, seed: int = 0) -> None:
        super().__init__(partial_sync.PartialSync(group_size, resync_every, seed))
