from collections import namedtuple

import numpy as np
import pytest
import tensorflow as tf

from tfdist.data.split import GlobalBatch, split_global_batches, split_sizes


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
@pytest.mark.parametrize("examples", [0, 1, 2, 6, 7, 100])
def test_sizes(examples, replicas):
    sizes = split_sizes(examples, replicas).numpy()
    # NumPy deals arrays out in the same way.
    assert sizes.tolist() == [len(part) for part in np.array_split(np.arange(examples), replicas)]
    assert sizes.sum() == examples
    assert sizes.max() - sizes.min() <= 1
    assert sorted(sizes, reverse=True) == sizes.tolist()


def deal(dataset, workers, local, **options):
    """What each of all replicas gets: a list of elements for each replica."""
    dealt = []
    for worker in range(workers):
        split = split_global_batches(dataset, workers * local, worker * local, local, **options)
        elements = list(split)
        assert len(elements) % local == 0
        dealt += [elements[first::local] for first in range(local)]
    return dealt


def rows_in_order(dealt, component):
    """The rows of all replicas, batch after batch, replica after replica."""
    return np.concatenate([component(element) for batch in zip(*dealt) for element in batch])


ROWS = np.arange(22 * 3, dtype="int64").reshape(22, 3)  # 8, 8 and 6 rows
PLACES = [(1, 1), (1, 2), (1, 4), (2, 1), (4, 1), (2, 2), (2, 3)]
places = pytest.mark.parametrize("workers, local", PLACES)


@places
def test_every_row_once_and_in_order(workers, local):
    dealt = deal(tf.data.Dataset.from_tensor_slices(ROWS).batch(8), workers, local)
    np.testing.assert_array_equal(rows_in_order(dealt, lambda x: x.numpy()), ROWS)
    for batch, size in zip(zip(*dealt), (8, 8, 6)):
        expected = np.array_split(np.arange(size), workers * local)
        assert [len(part) for part in batch] == [len(part) for part in expected]


@places
@pytest.mark.parametrize("as_global_batches", [False, True])
def test_structures(workers, local, as_global_batches):
    y = np.arange(22.0)
    structures = {
        "tuple": ((ROWS, y), lambda e: (e[0], e[1])),
        "1-tuple": ((ROWS,), lambda e: (e[0],)),
        "dict": ({"b": ROWS, "a": y}, lambda e: (e["b"], e["a"])),
        "nested": (({"b": ROWS}, (y, y + 1)), lambda e: (e[0]["b"], e[1][0], e[1][1])),
    }
    for name, (data, flatten) in structures.items():
        dataset = tf.data.Dataset.from_tensor_slices(data).batch(11)
        dealt = deal(dataset, workers, local, as_global_batches=as_global_batches)
        if as_global_batches and workers * local > 1:
            dealt = [[element.data for element in elements] for elements in dealt]
        assert isinstance(dealt[0][0], type(data)), name
        for i, whole in enumerate(flatten(data)):
            rows = rows_in_order(dealt, lambda element, i=i, f=flatten: f(element)[i].numpy())
            np.testing.assert_array_equal(rows, whole, err_msg=name)


def test_named_tuples_keep_their_type():
    # tf.data passes the fields of a tuple to `map` one by one, but not those of a named one.
    Pair = namedtuple("Pair", "x y")
    dataset = tf.data.Dataset.from_tensor_slices(Pair(ROWS, ROWS + 1)).batch(4)
    assert isinstance(dataset.element_spec, Pair)  # else this test is void
    for elements in deal(dataset, 1, 2):
        assert isinstance(elements[0], Pair)
        np.testing.assert_array_equal(elements[0].y, elements[0].x + 1)


@places
def test_components_that_are_none(workers, local):
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(8).map(lambda x: (x, None, x + 1))
    for elements in deal(dataset, workers, local):
        assert all(element[1] is None for element in elements)
    dealt = deal(dataset, workers, local)
    np.testing.assert_array_equal(rows_in_order(dealt, lambda e: e[2].numpy()), ROWS + 1)


@places
def test_ragged_tensors(workers, local):
    ragged = tf.RaggedTensor.from_row_lengths(np.arange(45), np.arange(10))  # 0..9 values a row
    dataset = tf.data.Dataset.from_tensor_slices((ragged, np.arange(10))).batch(6)
    dealt = deal(dataset, workers, local)
    rows = [row for batch in zip(*dealt) for element in batch for row in element[0].to_list()]
    assert rows == ragged.to_list()
    np.testing.assert_array_equal(rows_in_order(dealt, lambda e: e[1].numpy()), np.arange(10))


@places
def test_sparse_tensors(workers, local):
    dense = np.where(np.arange(50).reshape(10, 5) % 3 == 0, np.arange(50).reshape(10, 5), 0)
    dataset = tf.data.Dataset.from_tensor_slices(tf.sparse.from_dense(dense)).batch(6)
    dealt = deal(dataset, workers, local)
    assert isinstance(dealt[0][0], tf.SparseTensor)
    rows = rows_in_order(dealt, lambda element: tf.sparse.to_dense(element).numpy())
    np.testing.assert_array_equal(rows, dense)


@pytest.mark.parametrize("workers, local", [(1, 4), (4, 1), (2, 2)])
def test_fewer_examples_than_replicas(workers, local):
    dataset = tf.data.Dataset.from_tensor_slices((ROWS[:5], np.arange(5))).batch(4)  # 4 and 1
    first, *others = [elements[1] for elements in deal(dataset, workers, local)]
    np.testing.assert_array_equal(first[0], ROWS[4:5])
    assert [x.shape for x, _ in others] == [(0, 3)] * 3
    assert [y.shape for _, y in others] == [(0,)] * 3


@pytest.mark.parametrize("workers, local", [(1, 4), (4, 1), (2, 2)])
def test_fewer_examples_than_replicas_have_stand_ins(workers, local):
    dataset = tf.data.Dataset.from_tensor_slices((ROWS[:6], np.arange(6))).batch(4)  # 4 and 2
    dealt = deal(dataset, workers, local, as_global_batches=True)
    full, short = ([elements[step] for elements in dealt] for step in (0, 1))
    assert all(isinstance(batch, GlobalBatch) for batch in full + short)
    assert [int(batch.examples) for batch in full] == [1, 1, 1, 1]
    assert [int(batch.global_examples) for batch in full] == [4, 4, 4, 4]
    assert [int(batch.examples) for batch in short] == [1, 1, 0, 0]
    assert [int(batch.global_examples) for batch in short] == [2, 2, 2, 2]
    # The stand-in is the last example: a row that the model can run on.
    for batch, row in zip(short, (4, 5, 5, 5)):
        np.testing.assert_array_equal(batch.data[0], ROWS[row : row + 1])
        np.testing.assert_array_equal(batch.data[1], [row])


def test_one_replica_gets_the_dataset_itself():
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(8)
    (elements,) = deal(dataset, 1, 1, as_global_batches=True)
    np.testing.assert_array_equal(np.concatenate(elements), ROWS)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("data", [np.arange(3), {"x": ROWS, "y": np.arange(22)}])
def test_an_unbatched_dataset_is_an_error(data, replicas):
    dataset = tf.data.Dataset.from_tensor_slices(data)
    with pytest.raises(ValueError, match=r"must be batched(.|\n)*dataset.batch\(") as error:
        split_global_batches(dataset, replicas, 0, 1)
    assert str(dataset.element_spec) in str(error.value)


@pytest.mark.parametrize("local", [1, 2, 3])
@pytest.mark.parametrize("batches", [3, tf.data.INFINITE_CARDINALITY, tf.data.UNKNOWN_CARDINALITY])
def test_the_cardinality_is_kept(batches, local):
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(8)
    if batches == tf.data.INFINITE_CARDINALITY:
        dataset = dataset.repeat()
    if batches == tf.data.UNKNOWN_CARDINALITY:
        dataset = dataset.filter(lambda x: True)
    split = split_global_batches(dataset, 6, 0, local)
    assert int(split.cardinality()) == (batches if batches < 0 else batches * local)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("asked", [None, False, True])
def test_the_autotuner_runs_where_it_was_asked_for(replicas, asked):
    dataset = tf.data.Dataset.from_tensor_slices(ROWS).batch(8)
    if asked is not None:
        options = tf.data.Options()
        options.autotune.enabled = asked
        dataset = dataset.with_options(options)
    split = split_global_batches(dataset, replicas, 0, replicas)
    assert split.options().autotune.enabled is bool(asked)
    np.testing.assert_array_equal(np.concatenate(list(split)), ROWS)
