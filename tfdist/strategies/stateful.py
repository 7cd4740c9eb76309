"""Stateful RNNs: each replica keeps the states of its own rows.

A row of the global batch is on the same replica in each step, so that `stateful=True` means what
it does in one process; but a layer is made for the rows of one replica, not for those of all.
"""


def check(strategy, rows, num_batches, batch_size):
    """Refuses layers that were made for other rows than a replica gets.

    Args:
        strategy: a tfdist strategy.
        rows: dict of the names of stateful layers and the rows that their states have.
        num_batches: global batches an epoch, or None if that is not known.
        batch_size: examples of a global batch, or None if that is not known.

    Raises:
        ValueError: with what to write.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or batch_size is None or strategy.is_asynchronous:
        return
    for name, own in rows.items():
        # A single batch may hold less than `batch_size`: then its rows are not known.
        if own == batch_size or (own * replicas != batch_size and num_batches != 1):
            raise ValueError(
                f"The states of the stateful layer {name!r} are for batches of {own}. With "
                f"batch_size={batch_size} on {replicas} replicas each gets "
                f"{_part(batch_size, replicas)}, and keeps the states of its own rows. "
                f"{_advice(own, batch_size, replicas)}"
            )


def _part(batch_size, replicas):
    few, rest = divmod(batch_size, replicas)
    return f"{few} or {few + 1}" if rest else f"{few}"


def _advice(own, batch_size, replicas):
    wider = f"`batch_size={own * replicas}`"
    if batch_size % replicas:
        return f"Pass a batch size that {replicas} replicas can share evenly, such as {wider}."
    return (
        f"Write a replica's batch, `keras.Input(batch_shape=({batch_size // replicas}, ...))`, "
        f"where you make the model, or pass {wider}."
    )
