"""Which data can be read again. Trainings that are refused: callbacks/checkpoint_refusals_test."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.checkpointing import data

X = np.arange(12.0).reshape(6, 2)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2]


def pipeline():
    return tf.data.Dataset.from_tensor_slices(X)


@pytest.mark.parametrize(
    "make", [lambda: X, lambda: {"a": X, "b": [tf.constant(X)]}, Batches, lambda: None]
)
def test_what_is_read_by_index_has_no_seeds(make):
    assert data.check({"x": make(), "validation_data": (X, X)}) == []
    assert not data.needs_reading(make())


def test_the_seeds_of_pipelines():
    tf.random.set_seed(3)
    shuffled = pipeline().shuffle(6, seed=4)
    (seeds, validation) = data.check({"x": shuffled.batch(2), "validation_data": pipeline()})
    assert seeds == [[3, 4]]
    assert validation == []
    data.check_seeds([seeds, validation], [[[3, 4]], []])
    with pytest.raises(ValueError, match=r"of the seeds \[\[\[9, 4\]\], \[\]\], this one has"):
        data.check_seeds([seeds, validation], [[[9, 4]], []])


def test_a_pipeline_that_draws_without_a_seed_is_refused():
    with pytest.raises(ValueError, match="in x again: it is random without a seed"):
        data.check({"x": pipeline().shuffle(6)})


def test_an_order_by_timing_is_refused():
    options = tf.data.Options()
    options.deterministic = False
    given = {"x": X, "validation_data": pipeline().with_options(options)}
    with pytest.raises(ValueError, match="in validation_data again: the order of its batches"):
        data.check(given)


def test_a_generator_is_refused():
    with pytest.raises(ValueError, match="x=generator again after a restart: it is read once"):
        data.check({"x": (row for row in X)})


def test_pipelines_with_a_memory_need_reading():
    assert not data.needs_reading(pipeline().map(lambda row: row + 1.0).batch(2))
    assert data.needs_reading(pipeline().cache())
    remembered = tf.Variable(0.0, dtype=tf.float64)
    assert data.needs_reading(pipeline().map(lambda row: row + remembered.assign_add(1.0)))
    table = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, 0)

    def insert(row):
        keys = tf.cast(row, tf.int64)
        with tf.control_dependencies([table.insert(keys, keys)]):
            return tf.identity(row)

    assert data.needs_reading(pipeline().map(insert))
    generator = tf.data.Dataset.from_generator(lambda: iter(X), output_signature=tf.TensorSpec(2))
    assert data.needs_reading(generator)


def test_a_place_means_the_same_batch_only_with_the_same_arguments():
    mine = {"batch_size": 8, "shuffle": "True"}
    data.check_shape(mine, dict(mine))
    with pytest.raises(ValueError, match="written with batch_size=4, this `fit` has batch_size=8"):
        data.check_shape(mine, {**mine, "batch_size": 4})
