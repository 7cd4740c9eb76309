"""Datasets that workers of asynchronous training read for themselves."""

import copy

import tensorflow as tf

from tfdist.compat.inputs import DataAdapter
from tfdist.data.reading import without_autotuner


class WorkerDatasets(DataAdapter):
    """A dataset for each worker, made there by a function.

    An epoch ends when all workers have come to the end of theirs, whatever their
    speeds; with `steps_per_epoch`, after so many steps of whichever workers.

    Limit: a worker that was lost and comes back begins at the start of its dataset.

    Args:
        strategy: the `ParameterServerStrategy`.
        dataset_fn: function of a `tf.distribute.InputContext` that returns a batched
            `tf.data.Dataset`.

    Raises:
        TypeError: it returns something else.
    """

    def __init__(self, strategy, dataset_fn):
        self._strategy = strategy
        self._workers = len(strategy.cluster.workers)
        example = dataset_fn(self._context(tf.constant(0, tf.int64)))
        if not isinstance(example, tf.data.Dataset):
            raise TypeError(
                f"A dataset function must return a `tf.data.Dataset`; {dataset_fn!r} returned "
                f"{type(example).__name__}."
            )
        self._spec = example.element_spec
        coordinator = strategy.coordinator

        def of_this_worker():
            worker = tf.distribute.coordinator.experimental_get_current_worker_index()
            return without_autotuner(dataset_fn(self._context(tf.cast(worker, tf.int64))))

        self._datasets = coordinator.create_per_worker_dataset(of_this_worker)
        self._batches = None

    def of_length(self, batches):
        """The same, of which so many batches are an epoch; all that there are for None."""
        other = copy.copy(self)
        other._batches = batches
        return other

    def _context(self, worker):
        return tf.distribute.InputContext(self._workers, worker, num_replicas_in_sync=1)

    @property
    def element_spec(self):
        """The structure, shapes and dtypes of a batch."""
        return self._spec

    def __iter__(self):
        return WorkerIterators(self._workers, iter(self._datasets), self._spec, self._batches)

    # -- what Keras asks ------------------------------------------------------

    def get_tf_dataset(self):
        """Itself."""
        return self

    num_batches = None  # not known
    has_partial_batch = None
    partial_batch_size = None

    @property
    def batch_size(self):
        """Examples of a step, or None where batches differ."""
        return tf.nest.flatten(self._spec)[0].shape[0]


class WorkerIterators:
    """An iterator on each worker.

    Attributes:
        workers: how many.
        remote: TensorFlow's handle of them all, an argument of scheduled functions.
        element_spec: the structure, shapes and dtypes of a batch.
        batches: how many an epoch has over all workers; None for all that there are.
        ended: set of the indices of the workers that came to their end.
    """

    def __init__(self, workers, remote, element_spec, batches=None):
        self.workers, self.remote, self.element_spec = workers, remote, element_spec
        self.batches = batches
        self.ended = set()

    def __iter__(self):
        return self

    def __next__(self):
        raise TypeError("Batches of workers' own datasets never come to the coordinator.")

    def all_ended(self):
        """Whether there is no more data on any worker."""
        return len(self.ended) == self.workers
