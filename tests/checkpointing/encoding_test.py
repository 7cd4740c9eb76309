import json

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from tfdist.checkpointing.encoding import decode, encode, with_dtype


def there_and_back(value):
    arrays = {}
    text = json.dumps(encode(value, arrays))
    return decode(json.loads(text), arrays)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(2**63), 0.1, 1e-320, float("inf"), "text", [], (), {},
        [1, (2, [3.5])], {"a": {"b": (None,)}, 3: "three", (1, 2): []},
        {"list": 1}, {"array": "x"},
    ],
)  # fmt: skip
def test_plain_values_come_back_as_they_were(value):
    found = there_and_back(value)
    assert found == value and type(found) is type(value)


def test_nan_comes_back():
    assert np.isnan(there_and_back(float("nan")))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "uint8", "complex64"])
def test_arrays_and_numbers_keep_dtype_and_shape(dtype):
    array = np.array([[0, 1, 1]]).astype(dtype)
    found, number = there_and_back([array, array[0, 1]])
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype and found.shape == array.shape
    assert type(number) is type(array[0, 1]) and number == array[0, 1]


def test_a_tensor_comes_back_as_an_array():
    np.testing.assert_array_equal(there_and_back(tf.constant([1.5, 2.0])), [1.5, 2.0])


def test_a_dtype_that_numpys_files_forget(tmp_path):
    array = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    np.savez(tmp_path / "file.npz", array=array)
    with np.load(tmp_path / "file.npz") as archive:
        found = with_dtype(archive["array"], "bfloat16")
    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()


def test_what_would_need_a_pickle_is_refused():
    with pytest.raises(TypeError, match=r"cannot hold .* of type object"):
        encode([object()], {})
