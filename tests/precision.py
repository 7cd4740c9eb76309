"""A fixture for tests in which a mask must not hang on how a sum over replicas was rounded."""

import keras
import pytest


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
