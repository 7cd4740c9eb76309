import zlib

import numpy as np
import pandas
import pytest
import tensorflow as tf

from tfdist.data.fingerprint import fingerprints

MANY = np.arange(3000.0).reshape(1000, 3)


def one(array):
    (line,) = fingerprints({"x": array})
    return line


def test_a_line_says_what_an_array_is():
    small = np.arange(6, dtype="float32").reshape(3, 2)
    assert one(small) == f"x (3, 2) float32 with contents {zlib.crc32(small.tobytes()):08x}"


def test_structures_have_a_line_for_each_array():
    given = {"x": {"b": MANY, "a": MANY[:, 0]}, "y": [MANY, None], "sample_weight": None}
    starts = [line.split(" with")[0] for line in fingerprints(given)]
    assert starts == ["x (1000,) float64", "x (1000, 3) float64", "y (1000, 3) float64"]


@pytest.mark.parametrize(
    "other",
    [
        MANY[:-1],
        MANY.astype("float32"),
        MANY[::-1],
        MANY + 1.0,
        np.random.default_rng(0).permutation(MANY),
    ],
)
def test_other_arrays_have_other_lines(other):
    assert one(other) != one(MANY)
    assert one(MANY.copy()) == one(np.asfortranarray(MANY)) == one(MANY)


def test_tensors_are_as_arrays():
    assert one(tf.constant(MANY)) == one(MANY)


def test_strings():
    words = np.array(["one", "two", "three"])
    assert one(words) != one(np.array(["one", "two", "eight"]))
    assert one(words.astype(object)) != one(words[::-1].astype(object))


def test_frames():
    frame = pandas.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    assert one(frame) == one(frame.to_numpy()) != one(frame + 1)


def test_an_array_without_rows():
    assert one(MANY[:0]) == "x (0, 3) float64 with contents 00000000"


def test_what_is_no_array_has_no_line():
    others = [tf.data.Dataset.range(3), iter([1]), 3, np.float32(3), None]
    assert fingerprints({"x": [*others, tf.ragged.constant([[1], [2, 3]])]}) == []
