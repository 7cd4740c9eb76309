"""How a global batch is dealt out to replicas."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfdist.data.reading import without_autotuner


class GlobalBatch(NamedTuple):
    """A replica's part of a global batch, with what the replica cannot see.

    A replica without examples of its own holds a stand-in, the batch's last
    example, since not every operation of TensorFlow handles an empty batch
    (convolutions by oneDNN return a wrong shape); it must count for nothing.

    Attributes:
        data: the replica's examples, in the structure of the dataset.
        examples: scalar int64, how many of them count: all, or 0 for a stand-in.
        global_examples: scalar int64, how many the whole batch has.
    """

    data: Any
    examples: tf.Tensor
    global_examples: tf.Tensor


def split_sizes(examples: int | tf.Tensor, num_replicas: int) -> tf.Tensor:
    """How many of a global batch's examples each replica gets.

    Sizes differ by at most one, the larger ones first; with fewer examples than
    replicas the last ones get none.

    Args:
        examples: int, or scalar int tensor.
        num_replicas: int.

    Returns:
        An int tensor of shape `(num_replicas,)` that sums to `examples`.

    Example:

    >>> split_sizes(10, 4).numpy().tolist()
    [3, 3, 2, 2]
    >>> split_sizes(1, 2).numpy().tolist()
    [1, 0]
    """
    replicas = tf.range(num_replicas, dtype=tf.int64)
    examples = tf.cast(examples, tf.int64)
    return examples // num_replicas + tf.cast(replicas < examples % num_replicas, tf.int64)


def is_dealt_out(dataset: tf.data.Dataset) -> bool:
    """Whether replicas get their rows of each global batch of `dataset`, the same on all workers.

    Not where the user has set the auto-shard policy to FILE, HINT or OFF: then
    TensorFlow shards the data, or does not, and the examples of a step are what each worker
    reads.
    """
    policies = tf.data.experimental.AutoShardPolicy
    policy = dataset.options().experimental_distribute.auto_shard_policy
    return policy not in (policies.FILE, policies.HINT, policies.OFF)


def split_global_batches(
    dataset: tf.data.Dataset,
    num_replicas: int,
    first_replica: int,
    num_local_replicas: int,
    as_global_batches: bool = False,
) -> tf.data.Dataset:
    """Turns a dataset of global batches into one of the local replicas' batches.

    Replica r's examples stand before replica r+1's in the global batch, so
    that results in the order of replicas are in the order of the input. All
    workers read all global batches and keep their rows: nothing depends on how
    the input is stored, and nothing is read twice or left out.

    Args:
        dataset: a batched `tf.data.Dataset`; the first dimension of every
            component is the global batch.
        num_replicas: replicas on all workers.
        first_replica: index of this worker's first replica.
        num_local_replicas: replicas on this worker.
        as_global_batches: whether elements are `GlobalBatch`es, or data alone;
            then a replica without examples gets empty tensors.

    Returns:
        A `tf.data.Dataset` with `num_local_replicas` consecutive elements for
        each global batch.

    Raises:
        ValueError: a component has no batch dimension.
    """
    for spec in tf.nest.flatten(dataset.element_spec):
        if getattr(spec, "shape", None) is not None and spec.shape.rank == 0:
            raise ValueError(
                "A distributed dataset must be batched by the global batch size: every component "
                f"needs a batch dimension. Received element_spec={dataset.element_spec}. "
                "Call `dataset.batch(global_batch_size)`."
            )
    if num_replicas == 1:
        return without_autotuner(dataset)

    # As `map` does: it passes the fields of a tuple one by one, not those of a named tuple.
    is_tuple = type(dataset.element_spec) is tuple

    def rows_of(replica, *batch):
        batch = batch if is_tuple else batch[0]
        # Never a constant: what is computed from a static number of examples could not be
        # told from what is the same on all replicas (`sync/layer_state.py`).
        total = _examples(tf.nest.flatten(batch)[0])
        total = tf.compat.v1.placeholder_with_default(total, [])
        sizes = split_sizes(total, num_replicas)
        begin, size = tf.reduce_sum(sizes[:replica]), sizes[replica]
        if not as_global_batches:
            return tf.nest.map_structure(lambda value: _rows(value, begin, size), batch)
        begin, rows = tf.minimum(begin, total - 1), tf.maximum(size, 1)
        data = tf.nest.map_structure(lambda value: _rows(value, begin, rows), batch)
        return GlobalBatch(data, size, total)

    if num_local_replicas == 1:
        local = dataset.map(lambda *batch: rows_of(first_replica, *batch))
    else:
        replicas = tf.data.Dataset.range(first_replica, first_replica + num_local_replicas)
        local = dataset.flat_map(
            lambda *batch: replicas.map(lambda replica: rows_of(replica, *batch))
        )
        cardinality = dataset.cardinality()
        if cardinality >= 0:
            cardinality *= num_local_replicas
        if cardinality != tf.data.UNKNOWN_CARDINALITY:
            local = local.apply(tf.data.experimental.assert_cardinality(cardinality))
    return without_autotuner(local.prefetch(2 * num_local_replicas), prefetch=0)


def _rows(value, begin, size):
    if value is None or isinstance(value, tf.experimental.Optional):
        return value
    if isinstance(value, tf.SparseTensor):
        rest = value.dense_shape[1:]
        return tf.sparse.slice(
            value,
            tf.concat([[begin], tf.zeros_like(rest)], axis=0),
            tf.concat([[size], rest], axis=0),
        )
    return value[begin : begin + size]


def _examples(value):
    if isinstance(value, tf.SparseTensor):
        return value.dense_shape[0]
    if isinstance(value, tf.RaggedTensor):
        return tf.cast(value.nrows(), tf.int64)
    return tf.shape(value, out_type=tf.int64)[0]
