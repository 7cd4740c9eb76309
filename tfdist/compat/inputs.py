"""Distributed iterators that all workers leave at the same step.

Needs: `DistributedIterator._iterators`, `_cardinality` (of distributed datasets,
too), `_strategy`, the
`experimental_enable_get_next_as_optional` switch of a strategy's `extended`,
`extended._input_workers_with_options`, `PerReplicaSpec._value_specs`, and
`DistributedDatasetsFromFunction`, `_create_per_replica` and
`_SingleWorkerDatasetIteratorBase` of TensorFlow's input library, that with `_iterator`,
`_worker`, `_devices`, `_options`; and Keras' `DataAdapter`, the only kind of data besides
its own that `fit` takes.
Why: TensorFlow asks all workers, with a collective in front of each step,
whether anyone still has data. Under tfdist all workers walk through the same
global batches, so each knows. And it prefetches to CPUs as to other devices, by a
`MultiDeviceIterator`, which costs a few tenths of a second an epoch to make and whose
end may take as long as the epoch did (see `distribute_local`).
"""

import functools

import tensorflow as tf
from keras.src.trainers.data_adapters.data_adapter import DataAdapter  # noqa: F401
from tensorflow.python.distribute.input_lib import (
    DistributedDatasetsFromFunction,
    _create_per_replica,
    _should_use_multi_device_iterator,
    _SingleWorkerDatasetIteratorBase,
)

from tfdist.compat.replacing import note, replace

note(
    __name__,
    tf.distribute.StrategyExtended,
    "on a tfdist strategy, while it distributes a dataset",
    experimental_enable_get_next_as_optional=("always", "is False"),
)
note(
    __name__,
    tf.distribute.DistributedDataset,
    "on a dataset of `fit`",
    _cardinality=(
        "the data are arrays and TensorFlow does not know their number of batches",
        "is that number",
    ),
)


def install():
    for name, method in (
        ("get_next_as_list", "get_next"),
        ("get_next_as_optional_list", "get_next_as_optional"),
    ):
        replace(
            _SingleWorkerDatasetIteratorBase,
            name,
            functools.partial(_for_each_device, method),
            "an iterator for several devices does not prefetch to them, as tfdist's on CPUs",
            "takes an element for each device, where TensorFlow takes one for one device",
        )


def _for_each_device(method, original):
    """Without prefetching TensorFlow knows iterators of a single device only."""

    def next_elements(self, *args, **kwargs):
        if len(self._devices) == 1 or _should_use_multi_device_iterator(self._options):
            return original(self, *args, **kwargs)
        with tf.device(self._worker):
            return [getattr(self._iterator, method)() for _ in self._devices]

    return next_elements


def distribute_local(strategy, dataset):
    """Distributes a dataset whose consecutive elements are the local replicas' batches."""
    extended = strategy.extended
    switch = extended.experimental_enable_get_next_as_optional
    extended.experimental_enable_get_next_as_optional = False
    try:
        if not all("CPU" in device for device in extended.worker_devices):
            return strategy.distribute_datasets_from_function(lambda _: dataset)
        # On CPUs there is nothing to prefetch to, and each prefetching dataset brings an
        # autotuner of its own. That sleeps for up to as long as it has run already, and
        # TensorFlow wakes it up too early when it ends: a thread that is quick enough to see
        # no end yet, as on a busy machine or on a single core, sleeps on (see `data.split`).
        return DistributedDatasetsFromFunction(
            extended._input_workers_with_options(None),
            strategy,
            input_contexts=[tf.distribute.InputContext()],
            dataset_fn=lambda _: dataset,
            options=tf.distribute.InputOptions(
                experimental_fetch_to_device=False,
                experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
            ),
        )
    finally:
        extended.experimental_enable_get_next_as_optional = switch


def set_length(distributed, batches):
    """Notes how many global batches a distributed dataset has, where TensorFlow cannot count.

    Keras shuffles arrays by a `flat_map`, after which TensorFlow knows no length.
    """
    if getattr(distributed, "_cardinality", None) == tf.data.UNKNOWN_CARDINALITY:
        local_replicas = len(distributed._strategy.extended.worker_devices)
        distributed._cardinality = batches * local_replicas


def is_iterator(iterator):
    """Whether it is TensorFlow's; `train_on_batch` passes a generator of its one batch."""
    return isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator))


def ends_quietly(iterator):
    """Whether steps may read `iterator` inside a function with collectives in it.

    Not if it may run out there: the error would abort the collectives.
    """
    if not is_iterator(iterator):
        return False
    cardinality = getattr(iterator, "_cardinality", tf.data.UNKNOWN_CARDINALITY)
    return int(cardinality) != tf.data.UNKNOWN_CARDINALITY


class NextBatch:
    """The next batch of all local replicas, if there is one."""

    def __init__(self, iterator):
        self._iterator = iterator
        self._optionals = [
            optional
            for part in iterator._iterators
            for optional in part.get_next_as_optional_list()
        ]

    def has_value(self):
        return self._optionals[0].has_value()

    def get_value(self):
        values = [optional.get_value() for optional in self._optionals]
        return _create_per_replica(values, self._iterator._strategy)


def replica_element_spec(distributed):
    """The structure, shapes and dtypes of one replica's batch, without reading any data."""

    def of_one_replica(spec):
        specs = getattr(spec, "_value_specs", None)
        return specs[0] if specs else spec

    return tf.nest.map_structure(of_one_replica, distributed.element_spec)


def is_distributed(batch):
    """Whether replicas hold parts of `batch`, or all of them the whole."""
    return any(isinstance(v, tf.distribute.DistributedValues) for v in tf.nest.flatten(batch))
