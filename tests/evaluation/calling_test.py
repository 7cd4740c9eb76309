import numpy as np
import pytest
import tensorflow as tf

from tfdist.evaluation.calling import in_batches, named_inputs, only_output

X = np.random.default_rng(0).normal(size=(11, 4)).astype("float32")


def test_nested_inputs_in_batches():
    x = {"a": X, "b": [X[:, 0], X[:, 1]]}
    found = in_batches(lambda batch: batch["a"][:, 0] + batch["b"][1], x, 3)
    np.testing.assert_array_equal(found, X[:, 0] + X[:, 1])


def test_the_one_output_as_an_array():
    for outputs in (X, [X], {"scores": tf.constant(X)}):
        np.testing.assert_array_equal(only_output(outputs, "It"), X)
    with pytest.raises(ValueError, match=r"It has 2 outputs \(a, b\); expected one"):
        only_output({"a": X, "b": X}, "It")


def test_inputs_by_their_names():
    for one in (X, [X], (X,), {"x": X, "country": X}):
        found = named_inputs(one, ["x"], "It")
        assert list(found) == ["x"] and found["x"] is X
    with pytest.raises(ValueError, match=r"It takes a dict of .*'x', 'y'.*received a list"):
        named_inputs([X, X], ["x", "y"], "It")
    with pytest.raises(ValueError, match=r"received a dict of \['x'\]"):
        named_inputs({"x": X}, ["x", "y"], "It")
