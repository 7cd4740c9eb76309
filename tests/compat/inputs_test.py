import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from tensorflow.python.distribute import input_lib, values
from upstream import require, two_cpus

from tfdist.compat import inputs

UNKNOWN = tf.data.UNKNOWN_CARDINALITY


def dataset(elements=4):
    return tf.data.Dataset.range(elements).map(lambda i: {"x": tf.fill([i + 1, 3], i)})


def test_upstream():
    strategy = two_cpus()
    distributed = inputs.distribute_local(strategy, dataset())
    require(strategy.extended, "experimental_enable_get_next_as_optional")
    require(distributed, "_strategy", "_cardinality")
    require(iter(distributed), "_iterators", "_strategy", "_cardinality")
    require(iter(distributed)._iterators[0], "get_next_as_optional_list")
    require(values.PerReplicaSpec(tf.TensorSpec([])), "_value_specs")
    require(input_lib, "_create_per_replica", "_should_use_multi_device_iterator")
    require(input_lib, "_SingleWorkerDatasetIteratorBase")
    iterator = iter(distributed)._iterators[0]
    require(iterator, "_iterator", "_worker", "_devices", "_options")


def test_consecutive_elements_go_to_the_replicas():
    strategy = two_cpus()
    batches = list(inputs.distribute_local(strategy, dataset()))
    assert len(batches) == 2
    for step, batch in enumerate(batches):
        parts = strategy.experimental_local_results(batch["x"])
        for replica, part in enumerate(parts):
            i = 2 * step + replica
            np.testing.assert_array_equal(part, np.full((i + 1, 3), i))


@pytest.mark.skipif(devices.KIND != "CPU", reason="of CPUs")
def test_cpus_are_not_prefetched_to():
    distributed = inputs.distribute_local(two_cpus(), dataset())
    assert isinstance(iter(distributed)._iterators[0]._iterator, tf.data.Iterator)


def test_a_step_that_reads_twice_reads_in_order():
    strategy = two_cpus()
    iterator = iter(inputs.distribute_local(strategy, dataset(6)))

    @tf.function
    def two_steps(iterator):
        first, second = iterator.get_next(), inputs.NextBatch(iterator)
        return first, tf.cond(second.has_value(), second.get_value, lambda: first)

    batches = [*two_steps(iterator), next(iterator)]
    parts = [part for b in batches for part in strategy.experimental_local_results(b["x"])]
    assert [int(part[0, 0]) for part in parts] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("switch", [True, False])
def test_the_switch_is_put_back(monkeypatch, switch):
    strategy = two_cpus()
    strategy.extended.experimental_enable_get_next_as_optional = switch
    inputs.distribute_local(strategy, dataset())
    assert strategy.extended.experimental_enable_get_next_as_optional is switch

    def fails(*args, **kwargs):
        assert strategy.extended.experimental_enable_get_next_as_optional is False
        raise KeyError

    monkeypatch.setattr(inputs, "DistributedDatasetsFromFunction", fails)  # on CPUs
    monkeypatch.setattr(strategy, "distribute_datasets_from_function", fails)
    with pytest.raises(KeyError):
        inputs.distribute_local(strategy, dataset())
    assert strategy.extended.experimental_enable_get_next_as_optional is switch


def test_the_next_batch_if_there_is_one():
    strategy = two_cpus()
    iterator = iter(inputs.distribute_local(strategy, dataset(2)))
    batch = inputs.NextBatch(iterator)
    assert bool(batch.has_value())
    first, second = strategy.experimental_local_results(batch.get_value()["x"])
    np.testing.assert_array_equal(first, [[0, 0, 0]])
    np.testing.assert_array_equal(second, [[1, 1, 1]] * 2)
    assert not bool(inputs.NextBatch(iterator).has_value())


def test_the_spec_of_one_replica():
    strategy = two_cpus()
    spec = inputs.replica_element_spec(inputs.distribute_local(strategy, dataset()))
    assert spec["x"].shape.as_list() == [None, 3] and spec["x"].dtype == tf.int64
    assert inputs.replica_element_spec(dataset())["x"].shape.as_list() == [None, 3]


def test_which_iterators_end_quietly():
    strategy = two_cpus()
    finite = dataset()
    unknown = finite.filter(lambda batch: True)
    assert inputs.ends_quietly(iter(inputs.distribute_local(strategy, finite)))
    assert not inputs.ends_quietly(iter(inputs.distribute_local(strategy, unknown)))
    assert not inputs.ends_quietly(iter([1, 2]))
    assert isinstance(iter(finite), tf.data.Iterator)
    assert not inputs.ends_quietly(iter(unknown))


def test_arrays_of_keras_have_a_length():
    strategy = two_cpus()
    x, y = np.ones((10, 1), "float32"), np.ones((10, 1), "float32")
    lengths = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            lengths.append(batch)

    with strategy.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    epochs = TFEpochIterator(strategy, x=x, y=y, batch_size=4, shuffle=True)
    iterator = iter(epochs._distributed_dataset)
    assert inputs.ends_quietly(iterator)
    assert iterator._cardinality == 2 * 3  # what consecutive elements are counted
    for _ in range(3):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[Look()])
    assert lengths == [0, 1, 2] * 2


def test_what_only_claims_a_length_is_not_believed():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return np.ones((2, 1), "float32"), np.ones((2, 1), "float32")

    epochs = TFEpochIterator(two_cpus(), x=Batches())
    assert not inputs.ends_quietly(iter(epochs._distributed_dataset))
