import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.evaluation.data import chunks


def walked(data, batch_size=4, sample_weight=None, **kwargs):
    return list(chunks(data, sample_weight, batch_size, **kwargs))


def arrays(n=10):
    return np.arange(2 * n, dtype="float32").reshape(n, 2), np.arange(n)


def test_arrays_come_in_whole_batches():
    x, y = arrays()
    # 8 bytes an example: 70 bytes are 8 examples, two batches of 4.
    parts = walked((x, y, y + 1.0), chunk_bytes=70)
    assert [len(part) for part in parts] == [8, 2]
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part.weight for part in parts]), y + 1.0)


def test_batches_are_joined_up_to_the_size_of_a_chunk():
    x, y = arrays()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    parts = walked(dataset, chunk_bytes=40)
    assert [len(part) for part in parts] == [6, 4]
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), y)


def test_batches_of_another_length_are_not_joined():
    batches = [(np.zeros((2, width)), np.zeros(2)) for width in (3, 3, 5)]
    assert [part.x.shape for part in walked(batches)] == [(4, 3), (2, 5)]


def test_a_data_set_that_shuffles_is_walked_once():
    x = np.arange(20, dtype="float32")
    dataset = tf.data.Dataset.from_tensor_slices((x, x)).shuffle(20).batch(6)
    for part in walked(dataset):
        np.testing.assert_array_equal(part.x, part.y)


def test_a_py_dataset():
    class Halves(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.full((3, 1), index), np.full(3, index)

    (part,) = walked(Halves())
    np.testing.assert_array_equal(part.y, [0, 0, 0, 1, 1, 1])


def test_nested_inputs_and_plain_lists():
    x, y = arrays(4)
    (part,) = walked(({"a": x, "b": [x, x]}, y))
    assert part.x["b"][1].shape == (4, 2)
    (part,) = walked(([[1.0, 2.0], [3.0, 4.0]], [0, 1]))
    assert part.x.shape == (2, 2)
    (part,) = walked((list(np.arange(3.0)), list(np.arange(3))))
    assert part.x.shape == part.y.shape == (3,)


def test_weights_may_have_a_second_dimension():
    x, y = arrays(3)
    (part,) = walked((x, y), sample_weight=[[1], [2], [3]])
    np.testing.assert_array_equal(part.weight, [1, 2, 3])


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: (x[:0], y[:0]),
        lambda x, y: [],
        lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(2).take(0),
    ],
    ids=["arrays", "iterable", "tf.data"],
)
def test_empty_data(make):
    with pytest.raises(ValueError, match="received 0 examples, expected at least one"):
        walked(make(*arrays()))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda x, y: (x, y[:7]), r"shape \(10, 2\) and labels of shape \(7,\)"),
        (lambda x, y: (x,), r"a tuple of 1 in place of `\(x, y\)`"),
        (lambda x, y: (x, None), "needs the labels"),
        (lambda x, y: x, "data of type ndarray"),
        (lambda x, y: {"x": x}, "data of type dict"),
        (lambda x, y: 3, "data of type int"),
        (lambda x, y: (x, y, y[:4]), r"sample_weight of shape \(4,\) for 10 examples"),
        (lambda x, y: (x, {"a": y, "b": y}), "labels in a dict of 2"),
        (lambda x, y: (x, [y, y]), "labels in a list of 2"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices(x).batch(2), "needs the labels"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(2), "has no end"),
        (lambda x, y: [(np.float32(1), np.int64(1))], "without a batch dimension"),
    ],
)
def test_what_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        walked(make(*arrays()))


def test_weights_are_given_once():
    x, y = arrays()
    with pytest.raises(ValueError, match="weights twice"):
        walked((x, y, y), sample_weight=y)
    with pytest.raises(ValueError, match="whose examples come in an order of its own"):
        walked([(x, y)], sample_weight=y)


def test_ragged_inputs_are_refused():
    ragged = tf.ragged.constant([[1, 2], [3]])
    with pytest.raises(TypeError, match="Received a RaggedTensor; expected arrays"):
        walked((ragged, np.arange(2)))
