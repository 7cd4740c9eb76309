import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

from tfdist.strategies import variables as module

VALUES = {
    "float32": np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38], "float32"),
    "quiet and signalling NaNs": np.array([0x7FC00001, 0xFFC12345, 0x7F800001], "uint32").view(
        "float32"
    ),
    "float64": np.array([0.0, -0.0, np.nan, 5e-324, np.pi, -1e308]),
    "float16": np.array([0.0, -0.0, np.nan, 6e-8, 65504.0, -np.inf], "float16"),
    "bfloat16": np.array([0.0, -0.0, np.nan, 1e-40, 3e38], ml_dtypes.bfloat16),
    "bool": np.array([True, False, True]),
    "int8": np.array([-128, -1, 0, 127], "int8"),
    "uint8": np.array([0, 127, 128, 255], "uint8"),
    "int16": np.array([-(2**15), -1, 2**15 - 1], "int16"),
    "int32": np.array([-(2**31), -1, 2**31 - 1], "int32"),
    "uint32": np.array([0, 2**31, 2**32 - 1], "uint32"),
    "int64": np.array([-(2**63), -1, 2**63 - 1], "int64"),
    "uint64": np.array([0, 2**63, 2**64 - 1], "uint64"),
    "scalar": np.array(1.5, "float32"),
    "matrix": np.arange(6, dtype="float64").reshape(2, 3),
}
values = pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)


def bits(array):
    return np.ascontiguousarray(array).tobytes()


@values
def test_every_bit_comes_back(value):
    tensor = tf.constant(value)
    integers = module._to_integers(tensor)
    assert integers.dtype == (tf.int64 if value.dtype.itemsize == 8 else tf.int32)
    assert integers.shape == (value.size,)
    # What the others add to the chief's is nothing.
    summed = integers + tf.zeros_like(integers)
    back = module._from_integers(summed, tensor.shape, tensor.dtype)
    assert back.dtype == tensor.dtype and back.shape == tensor.shape
    assert bits(back.numpy()) == bits(value)


class Wire:
    """A strategy of one worker: it sends what the chief has, or receives it."""

    ring = None

    def __init__(self, messages=None):
        self.is_chief = messages is None
        self.messages = [] if self.is_chief else list(messages)

    def reduce(self, op, value):
        assert op == "SUM"
        if self.is_chief:
            self.messages.append(value)
            return value
        assert not np.any(value.numpy())  # the sum is the chief's
        return self.messages.pop(0) + value


def variables_of(replicas, arrays):
    """Distributed variables with a copy on each of `replicas` devices."""
    if replicas == 1:
        return [tf.Variable(array) for array in arrays]
    with two_cpus().scope():
        return [tf.Variable(array) for array in arrays]


@pytest.mark.parametrize("replicas", [1, 2])
def test_workers_get_the_chiefs_values(replicas):
    arrays = [value for value in VALUES.values() if value.dtype != np.uint64]
    chief = Wire()
    module.send_to_all(chief, variables_of(replicas, arrays))
    assert len(chief.messages) == 2  # one of 32 bits and one of 64

    worker = Wire(chief.messages)
    mine = variables_of(replicas, [np.zeros_like(array) for array in arrays])
    module.send_to_all(worker, mine)
    assert worker.messages == []
    for variable, array in zip(mine, arrays):
        copies = getattr(variable, "values", (variable,))
        assert len(copies) == replicas
        for copy in copies:
            assert bits(copy.numpy()) == bits(array), variable.dtype


def test_messages_are_of_bounded_size_and_leave_nothing_out(monkeypatch):
    monkeypatch.setattr(module, "_MESSAGE_BYTES", 100)
    sizes = [10, 10, 10, 300, 1, 0, 30]
    variables = [tf.Variable(np.full(size, i, "float32")) for i, size in enumerate(sizes)]
    messages = list(module._messages(variables))
    assert [[v.shape[0] for v in message] for message in messages] == [[10] * 3, [300], [1, 30]]

    chief = Wire()
    module.send_to_all(chief, variables)
    mine = [tf.Variable(tf.zeros_like(v)) for v in variables]
    module.send_to_all(Wire(chief.messages), mine)
    for a, b in zip(mine, variables):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("replicas", [1, 2])
def test_fingerprints_differ_where_a_bit_does(replicas):
    arrays = list(VALUES.values())
    mine = module.fingerprints(variables_of(replicas, arrays))
    assert mine == module.fingerprints(variables_of(replicas, arrays))
    assert len(mine) == len(arrays)
    for position, array in enumerate(arrays):
        other = np.frombuffer(bytes(array.tobytes()), np.uint8).copy()
        if array.dtype == bool or not other.size:
            continue
        other[0] ^= 1
        changed = [*arrays]
        changed[position] = other.view(array.dtype).reshape(array.shape)
        theirs = module.fingerprints(variables_of(replicas, changed))
        assert [a == b for a, b in zip(mine, theirs)].count(False) == 1
