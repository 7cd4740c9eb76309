"""What it takes, and what it refuses."""

import keras
import pytest

from tfdist import model_compression as compression


def test_the_public_name_is_the_function():
    assert compression.report is vars(compression)["report"] and callable(compression.report)


@pytest.mark.parametrize(
    "given, error, words",
    [
        ("model.tflite", ValueError, "LiteRT files have no report yet"),
        ("model.h5", ValueError, "expected a Keras model, or the path of a `.keras` file"),
        ("missing.keras", ValueError, "there is no such file"),
        (3, TypeError, "Received a int: expected a Keras model"),
    ],
)
def test_what_is_no_model(given, error, words):
    with pytest.raises(error, match=words):
        compression.report(given)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    with pytest.raises(error, match=words):
        compression.report(dense, given)


def test_a_model_that_is_not_built():
    model = keras.Sequential([keras.layers.Dense(3)], name="later")
    with pytest.raises(ValueError, match="'later' has no weights yet: expected one that is built"):
        compression.report(model)
