import keras
import numpy as np
import pytest
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer, PyDatasetAdapter
from upstream import require, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import py_dataset

BATCHES = 6


@pytest.fixture(autouse=True)
def installed():
    compat.install()


class Numbers(keras.utils.PyDataset):
    """Batches of four examples that are all the number of the batch."""

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        return np.full((4, 1), index, "float32"), np.zeros((4, 1), "float32")


def orders(strategy, seed, epochs=4, shuffle=True, **options):
    """The order of the batches of each epoch that a model saw."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    seen = []

    class Model(keras.Model):
        def train_step(self, data):
            return {"batch": keras.ops.mean(data[0])}

    with strategy.scope():
        inputs = keras.Input((1,))
        model = Model(inputs, keras.layers.Dense(1)(inputs))
        model.compile("sgd", "mse")
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(int(logs["batch"]))
    )
    steps = options.pop("steps_per_epoch", None)
    model.fit(
        Numbers(**options),
        epochs=epochs,
        steps_per_epoch=steps,
        shuffle=shuffle,
        verbose=0,
        callbacks=[note],
    )
    return np.reshape(seen, (-1, BATCHES)).tolist()


def test_upstream():
    adapter = PyDatasetAdapter(Numbers(), shuffle=True)
    require(adapter, "py_dataset", "shuffle", "enqueuer", "_finite_generator", "num_batches")
    require_parameters(PyDatasetAdapter._standardize_batch, "self", "batch")
    require_parameters(TFEpochIterator._get_iterator, "self")
    require(OrderedEnqueuer, "start", "get", "stop")
    adapter._finite_generator = lambda: iter([1, 2])
    assert list(adapter._get_iterator()) == [1, 2]  # the one that we replace is the one used


@pytest.mark.parametrize("options", [{}, {"workers": 2, "max_queue_size": 2}], ids=["", "threads"])
def test_the_order_follows_from_the_seed_and_differs_between_epochs(options):
    first = orders(two_cpus(), 3, **options)
    for epoch in first:
        assert sorted(epoch) == list(range(BATCHES))
    assert len({tuple(epoch) for epoch in first}) == len(first)
    assert orders(two_cpus(), 3, **options) == first
    assert orders(two_cpus(), 4, **options) != first


def test_a_second_call_has_an_order_of_its_own():
    first, second = orders(two_cpus(), 3), orders(two_cpus(), None)
    assert first != second
    assert [orders(two_cpus(), 3), orders(two_cpus(), None)] == [first, second]


def test_without_a_seed_it_is_another_one_each_time():
    assert orders(two_cpus(), None) != orders(two_cpus(), None)


def test_threads_do_not_change_the_order():
    assert orders(two_cpus(), 3) == orders(two_cpus(), 3, workers=2)


def test_the_order_does_not_depend_on_pythons_random_numbers(monkeypatch):
    first = orders(two_cpus(), 3)
    monkeypatch.setattr("random.shuffle", lambda items: pytest.fail("the workers' own order"))
    assert orders(two_cpus(), 3) == first


@pytest.mark.parametrize("workers", [1, 3])
def test_unshuffled_and_whole(workers):
    found = orders(two_cpus(), 3, shuffle=False, workers=workers, max_queue_size=2)
    assert found == [list(range(BATCHES))] * 4


def test_passes_that_span_epochs():
    by_halves = orders(two_cpus(), 3, epochs=8, steps_per_epoch=BATCHES // 2)
    for each in by_halves:
        assert sorted(each) == list(range(BATCHES))
    assert orders(two_cpus(), 3, epochs=8, steps_per_epoch=BATCHES // 2) == by_halves


def test_what_is_no_finite_py_dataset_stays_as_it_is():
    class Endless(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return None

    for adapter in (PyDatasetAdapter(Endless()), object()):
        before = dict(getattr(adapter, "__dict__", {}))
        py_dataset.agree_on_order(adapter)
        assert dict(getattr(adapter, "__dict__", {})) == before
