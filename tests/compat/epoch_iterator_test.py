import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TFEpochIterator
from upstream import require

from tfdist.compat import epoch_iterator

ROWS = np.arange(12.0)[:, None]


def test_the_names_exist():
    iterator = make(ROWS)
    require(iterator, "_enumerate_iterator", "_num_batches", "_steps_seen", "_current_iterator")
    require(keras.Model, "_get_metrics_result_or_logs", "_maybe_symbolic_build")
    require(keras.Sequential(), "_initial_epoch")


def make(data, steps_per_epoch=None, steps_per_execution=1):
    kwargs = {"batch_size": 4} if isinstance(data, np.ndarray) else {}
    return TFEpochIterator(
        x=data,
        steps_per_epoch=steps_per_epoch,
        steps_per_execution=steps_per_execution,
        distribute_strategy=tf.distribute.get_strategy(),
        **kwargs,
    )


def read_epoch(iterator):
    """The batches of one epoch, as `fit` reads them: first numbers, by (begin, end)."""
    found = []
    try:
        for begin, _, batches in iterator:
            found.append((begin, [float(b[0][0, 0]) for b in take(iterator, batches)]))
            if not found[-1][1]:
                found.pop()
                raise StopIteration
    except StopIteration:
        if iterator._num_batches is None:
            iterator._num_batches = iterator._steps_seen
        iterator._current_iterator = None
        iterator.data_adapter.on_epoch_end()
    return found


def take(iterator, batches):
    for _ in range(iterator.steps_per_execution):
        try:
            yield next(batches)
        except StopIteration:
            return


def pipeline():
    tf.random.set_seed(4)
    return tf.data.Dataset.from_tensor_slices((ROWS,)).shuffle(12, seed=2)


DATA = {
    "known": lambda: make(pipeline().batch(2)),
    "unknown": lambda: make(pipeline().filter(lambda x: True).batch(2)),
    "one iterator": lambda: make(pipeline().batch(2).repeat(), steps_per_epoch=4),
    "executions of two steps": lambda: make(pipeline().batch(3), steps_per_execution=2),
}


@pytest.mark.parametrize("name", DATA)
def test_after_a_walk_the_epochs_are_those_that_would_have_come(name):
    whole = DATA[name]()
    epochs = [read_epoch(whole) for _ in range(4)]
    assert epochs[0] != epochs[1]
    resumed = DATA[name]()
    epoch_iterator.walk_through(resumed, 2, epoch_iterator.batches_an_epoch(whole))
    epoch_iterator.begin_at(resumed, 2)
    assert read_epoch(resumed) == [batch for batch in epochs[2] if batch[0] >= 2]
    assert read_epoch(resumed) == epochs[3]


def test_reading_where_reading_matters():
    def numbers():
        numbers.calls += 1
        for i in range(3):
            yield (np.full((1, 1), 10.0 * numbers.calls + i),)

    def dataset():
        numbers.calls = 0
        spec = (tf.TensorSpec([None, 1], tf.float64),)
        return make(tf.data.Dataset.from_generator(numbers, output_signature=spec))

    whole = dataset()
    epochs = [read_epoch(whole) for _ in range(3)]
    resumed = dataset()
    epoch_iterator.walk_through(resumed, 2, epoch_iterator.batches_an_epoch(whole), read=True)
    assert read_epoch(resumed) == epochs[2] != epochs[0]


def test_what_was_set_on_a_model_is_forgotten():
    model = keras.Sequential()
    before = set(vars(model))
    epoch_iterator.expect(model, lambda iterator: None)
    epoch_iterator.set_first_epoch(model, 3)
    epoch_iterator.set_logs_of_the_step_before(model, {"loss": 1.0})
    epoch_iterator.forget(model)
    assert set(vars(model)) == before and model._initial_epoch is None
