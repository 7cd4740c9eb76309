"""What an algorithm or a compressor may say to the other replicas.

Two classes say it: `tfdist.sync.communicator.ReplicaCommunicator` in training, and one of
threads and NumPy in the tests, so that an algorithm is tried without TensorFlow's collectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import tensorflow as tf

OPS = ("sum", "max", "min")


@runtime_checkable
class Communicator(Protocol):
    """Collectives of one replica.

    All replicas make the same calls in the same order, with the same shapes and dtypes.

    Attributes:
        num_replicas: int, how many take part.
        replica_id: scalar int tensor, this replica's index among them.
        examples: scalar tensor, how many examples this replica has in the present step;
            None outside of a step.
    """

    num_replicas: int
    replica_id: tf.Tensor
    examples: tf.Tensor | None

    def all_reduce(
        self, values: Sequence[tf.Tensor | tf.IndexedSlices], op: str = "sum"
    ) -> list[tf.Tensor]:
        """Reduces each value over all replicas, element by element.

        A maximum and a minimum are exact, and NaN where a replica has NaN.

        Args:
            values: list of tensors of any shape, of a floating-point type, int32 or int64.
                For sums also `tf.IndexedSlices`, whose numbers of rows may differ; for
                "max" and "min" also the other integer types.
            op: "sum", "max" or "min".

        Returns:
            A list of the same structure; bit-identical on all replicas.

        Raises:
            ValueError: another `op`.
            TypeError: the maximum or minimum of `tf.IndexedSlices`.
        """

    def all_gather(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Stacks each value over all replicas.

        Args:
            values: list of tensors.

        Returns:
            A list of tensors of shapes `(num_replicas, *shape)`, in the order of the replicas.
        """

    def all_to_all(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gives each replica rows of its own.

        Args:
            values: list of tensors of shapes `(num_replicas, ...)`; row i is for replica i.

        Returns:
            A list of tensors like `values`, whose row i came from replica i.
        """

    def group_sum(self, values: Sequence[tf.Tensor], groups: tf.Tensor) -> list[tf.Tensor]:
        """Sums each value over the replicas of this one's group.

        Args:
            values: list of tensors.
            groups: int tensor of shape `(num_replicas,)`, the number of each replica's
                group; the same on all replicas.

        Returns:
            A list like `values`; bit-identical on all replicas of a group.
        """


def check_op(op: str, values: Sequence[tf.Tensor | tf.IndexedSlices]) -> None:
    """Raises where `all_reduce` does not know `op`, or not for these values."""
    if op not in OPS:
        raise ValueError(f'all_reduce received op={op!r}: expected "sum", "max" or "min".')
    if op != "sum" and any(isinstance(value, tf.IndexedSlices) for value in values):
        raise TypeError(
            f"all_reduce received `tf.IndexedSlices` with op={op!r}: rows that are not named are "
            "zeros for a sum, and unknown otherwise. Pass `tf.convert_to_tensor(value)`."
        )
