"""What replicas say to each other inside a step.

One class, so that an algorithm names no transport: `ReplicaCommunicator` speaks
through TensorFlow's collectives from a replica context. All replicas must make
the same calls in the same order; a call that one of them leaves out makes the
others wait until the collective's deadline.
"""

import tensorflow as tf


class ReplicaCommunicator:
    """Collectives of the replica whose context is active.

    Args:
        num_replicas: how many replicas take part.
        options: `tf.distribute.experimental.CommunicationOptions`, or None for
            those of the strategy.
    """

    def __init__(self, num_replicas, options=None):
        self.num_replicas = num_replicas
        self.options = options

    def all_reduce(self, values):
        """Sums each value over all replicas, in as few messages as dtypes allow.

        Args:
            values: list of float or integer tensors of any shape, or
                `tf.IndexedSlices`. Shapes must be equal on all replicas, but for
                the number of rows of a `tf.IndexedSlices`.

        Returns:
            A list of the same structure; bit-identical on all replicas.
        """
        if self.num_replicas == 1 or not values:
            return list(values)
        # A pack is one flat tensor: it has one dtype.
        by_dtype = {}
        for position, value in enumerate(values):
            by_dtype.setdefault(value.dtype, []).append(position)
        context = tf.distribute.get_replica_context()
        results = [None] * len(values)
        for positions in by_dtype.values():
            reduced = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [values[i] for i in positions], self.options
            )
            for position, value in zip(positions, reduced):
                results[position] = value
        return results
