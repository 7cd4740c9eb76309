import keras
import pytest

from tfdist.compat.backend import require_tensorflow


def test_tensorflow_will_do():
    assert keras.config.backend() == "tensorflow"
    require_tensorflow()


@pytest.mark.parametrize("other", ["jax", "torch"])
def test_another_backend_is_named(other, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: other)
    with pytest.raises(ImportError, match=f"backend is '{other}'. Set KERAS_BACKEND=tensorflow"):
        require_tensorflow()
