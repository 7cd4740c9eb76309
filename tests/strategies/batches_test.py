import numpy as np
import pytest
import tensorflow as tf

from tfdist.data.split import GlobalBatch
from tfdist.strategies import batches as module


@pytest.mark.parametrize(
    "data, examples",
    [
        (np.zeros((5, 2)), 5),
        ((np.zeros((5, 2)), np.zeros(5)), 5),
        (({"a": np.zeros((4, 1)), "b": np.zeros((4, 2))}, np.zeros(4), np.ones(4)), 4),
        (([None, np.zeros((3, 2))], np.zeros(3)), 3),
        ((lambda: tf.ragged.constant([[1], [], [2, 3]]), np.zeros(3)), 3),
        ((lambda: tf.sparse.from_dense(np.eye(6, 2)), np.zeros(6)), 6),
        (np.zeros((0, 2)), 0),
    ],
)
def test_examples_are_counted(data, examples):
    def tensor_of(value):
        return value() if callable(value) else value if value is None else tf.constant(value)

    data = tf.nest.map_structure(tensor_of, data)
    count = module.count_examples(data)
    assert int(count) == examples and count.dtype == tf.int32 and count.shape == ()
    unpacked, own, everyone = module.unpack(data)
    assert unpacked is data and int(own) == examples and everyone is None


def test_a_global_batch_knows_its_size():
    batch = GlobalBatch(data=(1, 2), examples=3, global_examples=7)
    assert module.unpack(batch) == ((1, 2), 3, 7)


@pytest.mark.parametrize("data", [(None, np.zeros(3)), ({}, np.zeros(3))])
def test_a_batch_without_inputs_is_an_error(data):
    with pytest.raises(ValueError, match="at least one input tensor with a batch") as error:
        module.count_examples(data)
    assert "Yield `(x, y)`" in str(error.value)
