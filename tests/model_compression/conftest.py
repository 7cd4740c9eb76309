import keras
import pytest


@pytest.fixture(autouse=True)
def float64():
    """So that a mask does not hang on how a sum over replicas was rounded."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
