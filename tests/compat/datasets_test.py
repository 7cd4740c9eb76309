import numpy as np
import pytest
import tensorflow as tf
from upstream import require

from tfdist.compat.datasets import traits

ROWS = np.arange(6.0)


def rows():
    return tf.data.Dataset.from_tensor_slices(ROWS)


def test_the_names_exist():
    require(rows().shuffle(3), "_inputs", "_functions", "_seed", "_seed2")
    mapped = rows().map(lambda x: x, num_parallel_calls=2, deterministic=False)
    require(mapped, "_deterministic")
    require(mapped._functions()[0], "function")
    require(rows(), "_tensors")
    require(rows().shard(2, 1), "_num_shards", "_index")
    require(rows().take(2), "_count")
    require(rows().batch(2), "_batch_size")
    require(rows().batch(2, num_parallel_calls=2), "_batch_size")
    require(tf.data.Dataset.range(3), "_start", "_stop", "_step")
    require(tf.data.TFRecordDataset("/a"), "_filenames")
    require(tf.data.TextLineDataset("/a"), "_filenames")


def test_a_plain_pipeline_has_no_traits():
    assert traits(rows().map(lambda x: x + 1).batch(2)) == (False, [], False)


def test_seeds_of_shuffles_and_of_random_operations():
    tf.random.set_seed(5)
    shuffled, mapped = (
        rows().shuffle(6),
        rows().map(lambda x: x * tf.random.normal([], seed=3, dtype="float64")),
    )
    (first,), (second,) = traits(shuffled.batch(2).prefetch(1)).seeds, traits(mapped).seeds
    assert first[0] == second[0] == 5 and second[1] == 3
    tf.random.set_seed(5)
    assert traits(rows().shuffle(6)).seeds == [first]  # made alike, seeded alike


def test_no_seed_shows():
    tf.random.set_seed(None)
    assert traits(rows().shuffle(6)).seeds == [(0, 0)]


@pytest.mark.parametrize("how", ["options", "map"])
def test_unordered(how):
    options = tf.data.Options()
    options.deterministic = False
    dataset = {
        "options": lambda: rows().with_options(options).batch(2),
        "map": lambda: rows().map(lambda x: x, num_parallel_calls=2, deterministic=False).batch(2),
    }[how]()
    assert traits(dataset).unordered


@pytest.mark.parametrize("what", ["cache", "generator", "py_function", "tf.random.Generator"])
def test_with_memory(what):
    generator = tf.random.Generator.from_seed(1)

    def numbers():
        yield 1.0

    dataset = {
        "cache": lambda: rows().cache(),
        "generator": lambda: tf.data.Dataset.from_generator(
            numbers, output_signature=tf.TensorSpec([])
        ),
        "py_function": lambda: rows().map(lambda x: tf.py_function(np.sin, [x], tf.float64)),
        "tf.random.Generator": lambda: rows().map(lambda x: generator.uniform([])),
    }[what]()
    assert traits(dataset.batch(2)).with_memory
