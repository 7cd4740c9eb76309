import numpy as np
import pytest
import tensorflow as tf
from upstream import require

from tfdist.compat.datasets import batch_size, in_one_order, traits

ROWS = np.arange(6.0)


def rows():
    return tf.data.Dataset.from_tensor_slices(ROWS)


def test_the_names_exist():
    require(rows().shuffle(3), "_inputs", "_functions", "_seed", "_seed2")
    mapped = rows().map(lambda x: x, num_parallel_calls=2, deterministic=False)
    require(mapped, "_deterministic")
    require(mapped._functions()[0], "function")
    require(mapped, "_flat_types", "_flat_shapes")
    require(rows(), "_tensors")
    require(rows().shard(2, 1), "_num_shards", "_index")
    require(rows().take(2), "_count")
    require(rows().batch(2), "_batch_size")
    require(rows().batch(2, num_parallel_calls=2), "_batch_size")
    require(tf.data.Dataset.range(3), "_start", "_stop", "_step")
    require(tf.data.TFRecordDataset("/a"), "_filenames")
    require(tf.data.TextLineDataset("/a"), "_filenames")


def test_a_plain_pipeline_has_no_traits():
    assert traits(rows().map(lambda x: x + 1).batch(2)) == ([], [], False)


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


def unevenly_slow(number):
    size = tf.where(number % 7 == 0, 700, 2)
    return number + tf.cast(0 * tf.reduce_sum(tf.matmul(*[tf.ones((size, size))] * 2)), tf.int64)


def parallel(dataset, deterministic=None):
    return dataset.map(unevenly_slow, num_parallel_calls=8, deterministic=deterministic)


def numbers(begin=0, end=60):
    return tf.data.Dataset.range(begin, end)


def as_they_come():
    options = tf.data.Options()
    options.deterministic = False
    return options


def of_files(number):
    return parallel(numbers(10 * number, 10 * number + 10), False)


# Each holds 0, 1, ..., 59, which stand in this order where `deterministic` is not False.
UNORDERED = {
    "options": lambda: parallel(numbers()).with_options(as_they_come()),
    "options of an input": lambda: parallel(numbers().with_options(as_they_come())),
    "map": lambda: parallel(numbers(), False),
    "interleave": lambda: numbers().interleave(
        lambda number: tf.data.Dataset.from_tensors(unevenly_slow(number)),
        cycle_length=8,
        num_parallel_calls=8,
        deterministic=False,
    ),
    "batch": lambda: (
        numbers().batch(4, num_parallel_calls=4, deterministic=False).prefetch(2).unbatch()
    ),
    "one of two inputs": lambda: tf.data.Dataset.zip(numbers(), parallel(numbers(), False)).map(
        lambda number, same: same
    ),
    "in a function": lambda: numbers(0, 6).flat_map(of_files),
    "in a function in a function": lambda: numbers(0, 6).flat_map(
        lambda i: tf.data.Dataset.from_tensors(i).flat_map(of_files)
    ),
    "option overridden, argument not": lambda: parallel(numbers(), False).with_options(
        ordered_option()
    ),
}


def ordered_option():
    options = tf.data.Options()
    options.deterministic = True
    return options


@pytest.mark.parametrize("how", UNORDERED)
def test_unordered(how):
    dataset = UNORDERED[how]()
    (found,) = traits(dataset).unordered
    assert found.startswith("`options." if how.startswith("options") else "`deterministic=False` ")
    ordered = in_one_order(dataset)
    assert traits(ordered).unordered == []
    assert ordered.element_spec == dataset.element_spec
    assert ordered.cardinality() == dataset.cardinality()
    for _ in range(2):
        np.testing.assert_array_equal(list(ordered), np.arange(60))


def test_an_ordered_interleave():
    def interleaved(**options):
        one = tf.data.Dataset.from_tensors
        return numbers().interleave(one, cycle_length=4, num_parallel_calls=4, **options)

    assert traits(interleaved()).unordered == []
    assert traits(interleaved(deterministic=True)).unordered == []


def test_an_option_that_is_overridden_does_not_count():
    dataset = parallel(numbers().with_options(as_they_come())).with_options(ordered_option())
    assert traits(dataset).unordered == []


def test_a_pipeline_in_one_order_is_else_the_same():
    options = as_they_come()
    options.autotune.enabled = False

    def twice(number):
        return number, None, tf.numpy_function(lambda n: 2 * n, [number], tf.int64)

    def make():
        tf.random.set_seed(5)
        return numbers().shuffle(60).cache().map(twice, num_parallel_calls=4).batch(7)

    ordered = in_one_order(make().with_options(options))
    assert ordered.options().autotune.enabled is False
    expected = make()
    for _ in range(2):  # epochs, which the shuffle orders anew
        for mine, theirs in zip(ordered, expected, strict=True):
            assert mine[1] is None
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[2], theirs[2])


def test_ragged_and_sparse_components_in_one_order():
    ragged = tf.ragged.constant([[1], [2, 3], [], [4]])
    data = {"ragged": ragged, "sparse": tf.sparse.from_dense(np.eye(4))}
    dataset = tf.data.Dataset.from_tensor_slices(data).batch(2).with_options(as_they_come())
    ordered = in_one_order(dataset)
    assert ordered.element_spec == dataset.element_spec
    assert [row for batch in ordered for row in batch["ragged"].to_list()] == ragged.to_list()
    dense = [tf.sparse.to_dense(batch["sparse"]) for batch in ordered]
    np.testing.assert_array_equal(np.concatenate(dense), np.eye(4))


def test_a_dataset_that_a_function_has_captured_cannot_be_put_into_order():
    captured, fine = parallel(numbers(), False), parallel(numbers())
    dataset = numbers(0, 2).flat_map(lambda _: captured)
    (found,) = traits(dataset).unordered
    assert found.startswith("`deterministic=False` of a ParallelMapDatasetV2 in a dataset that was")
    with pytest.raises(ValueError, match="made outside of the function that uses it"):
        in_one_order(dataset)
    dataset = numbers(0, 2).flat_map(lambda _: fine)
    assert traits(dataset).unordered == []
    np.testing.assert_array_equal(list(in_one_order(dataset)), [*range(60), *range(60)])


def test_a_dataset_of_the_service_cannot_be_put_into_order():
    dispatcher = tf.data.experimental.service.DispatchServer()
    service = tf.data.experimental.service.distribute(
        processing_mode="parallel_epochs", service=dispatcher.target
    )
    dataset = numbers().apply(service).batch(2)
    assert any("tf.data's service" in found for found in traits(dataset).unordered)
    with pytest.raises(ValueError, match=r"tf\.data's service"):
        in_one_order(dataset)


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


BATCHES = {
    "batch": (4, lambda: rows().batch(4)),
    "in parallel": (4, lambda: rows().batch(4, num_parallel_calls=2)),
    "padded": (3, lambda: rows().padded_batch(3)),
    "behind others": (
        4,
        lambda: (
            rows()
            .batch(4)
            .with_options(tf.data.Options())
            .cache()
            .shuffle(2)
            .map(lambda x: x)
            .map(lambda x: x, num_parallel_calls=2)
            .repeat(2)
            .skip(1)
            .take(1)
            .prefetch(1)
        ),
    ),
    "twice": (2, lambda: rows().batch(4).unbatch().batch(2)),
    "changed": (None, lambda: rows().batch(4).unbatch()),
    "joined": (None, lambda: tf.data.Dataset.zip(rows().batch(4), rows().batch(4))),
    "none": (None, rows),
}


@pytest.mark.parametrize("expected, make", BATCHES.values(), ids=BATCHES)
def test_batch_size(expected, make):
    assert batch_size(make()) == expected


def test_what_is_no_dataset_has_no_batch_size():
    assert batch_size(ROWS) is None and batch_size(None) is None
