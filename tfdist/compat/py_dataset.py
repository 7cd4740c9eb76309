"""The order in which a `PyDataset`'s batches are read: the same on every worker.

Needs: `PyDatasetAdapter.py_dataset`, `.shuffle`, `.enqueuer`, `._finite_generator`
and `._standardize_batch`, `OrderedEnqueuer`, and `TFEpochIterator._get_iterator`.
Why: Keras shuffles by Python's global random numbers, which each worker has its
own of, drawn on background threads as often as those happen to start an iterator
too many. Here the order is a function of TensorFlow's seed, of how many calls have
shuffled since it was set, and of how many iterators the call has asked for, counted
on its own thread: it is the same on all workers, and in a new process that walks
through the same epochs. And each iterator has
its own threads or processes that prepare batches, where Keras' iterators share
those: one that was prefetched and never read took batches away from the next.

Limits: a `PyDataset` without a length is read in its own order, as in Keras.
"""

import itertools
import random

import keras
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from keras.src.trainers.data_adapters.py_dataset_adapter import OrderedEnqueuer, PyDatasetAdapter

from tfdist.compat import coordination
from tfdist.compat.replacing import note, replace

note(
    __name__,
    PyDatasetAdapter,
    "on the adapter of a `PyDataset` that a model of a tfdist strategy reads",
    **dict.fromkeys(
        ("_finite_generator", "enqueuer"),
        ("always", "reads in an order that all workers share, each iterator by its own threads"),
    ),
)

_calls = {"since": None, "number": 0}


def install():
    replace(
        TFEpochIterator,
        "_get_iterator",
        _count,
        "the order of the data is tfdist's (`compat/array_order.py` and this module)",
        "counts the iterators, each of which has an order of its own",
    )


def _count(original):
    def _get_iterator(self):
        order = vars(self.data_adapter).get("_tfdist_order")
        if order is not None:
            order.begin_pass()
        return original(self)

    return _get_iterator


def agree_on_order(adapter):
    """Makes `adapter` read in an order that follows from TensorFlow's seed. All workers call it.

    Args:
        adapter: a Keras data adapter; others than those of a finite `PyDataset`
            are left as they are.
    """
    if not isinstance(adapter, PyDatasetAdapter) or adapter.num_batches is None:
        return
    order = Order(seed_of_call() if adapter.shuffle else None)
    enqueued, adapter.enqueuer = adapter.enqueuer is not None, None

    def batches():
        indices = order.of_pass(adapter.num_batches)
        reader = _enqueued if enqueued else _read
        return map(adapter._standardize_batch, reader(adapter.py_dataset, indices))

    adapter._tfdist_order = order
    adapter._finite_generator = batches


def seed_of_call():
    """Another seed for each call since `tf.random.set_seed`; not reproducible without one."""
    seed = coordination.global_seed()
    if seed is None:
        return str(random.getrandbits(64))
    if _calls["since"] is not coordination.seeding():
        _calls.update(since=coordination.seeding(), number=0)
    _calls["number"] += 1
    return f"{seed} {_calls['number']}"


class Order:
    """The order of each pass over the data.

    Args:
        seed: str, or None for the order 0, 1, 2, ...
    """

    def __init__(self, seed):
        self._seed = seed
        self._pass = 0

    def begin_pass(self):
        """What is read from now on belongs to the next pass."""
        self._pass += 1

    def of_pass(self, length):
        """Returns the indices of the present pass, a list."""
        indices = list(range(length))
        if self._seed is not None:
            random.Random(f"{self._seed} {self._pass}").shuffle(indices)
        return indices


def _read(dataset, indices):
    for index in indices:
        yield dataset[index]


def _enqueued(dataset, indices):
    """Reads by as many threads or processes as `dataset` asks for, in the order of `indices`."""
    enqueuer = OrderedEnqueuer(
        _Reordered(dataset, indices),
        workers=dataset.workers,
        use_multiprocessing=dataset.use_multiprocessing,
        max_queue_size=dataset.max_queue_size,
    )
    enqueuer.start()
    try:
        yield from itertools.islice(enqueuer.get(), len(indices))
    finally:
        enqueuer.stop()


class _Reordered(keras.utils.PyDataset):
    def __init__(self, dataset, indices):
        super().__init__()
        self._dataset, self._indices = dataset, indices

    def __len__(self):
        return len(self._indices)

    def __getitem__(self, index):
        return self._dataset[self._indices[index]]
