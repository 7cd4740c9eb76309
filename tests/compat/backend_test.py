import configparser
import pathlib

import keras
import pytest
import tensorflow as tf

from tfdist.compat.backend import NEEDED, require_tensorflow, require_versions

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_tensorflow_will_do():
    assert keras.config.backend() == "tensorflow"
    require_tensorflow()


@pytest.mark.parametrize("other", ["jax", "torch"])
def test_another_backend_is_named(other, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: other)
    with pytest.raises(ImportError, match=f"backend is '{other}'. Set KERAS_BACKEND=tensorflow"):
        require_tensorflow()


def test_the_bounds_are_those_of_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = config["options"]["install_requires"]
    for name, (least, below) in NEEDED.items():
        assert f"{name} >={least},<{below}" in required


def test_these_versions_will_do(monkeypatch):
    require_versions()
    monkeypatch.setattr(tf, "__version__", "2.21.0-rc1")
    monkeypatch.setattr(keras, "__version__", "3.15.9")
    require_versions()


@pytest.mark.parametrize(
    "module, found, name",
    [(tf, "2.20.1", "tensorflow"), (tf, "2.22.0", "tensorflow"), (keras, "3.9.2", "keras")],
)
def test_another_version_is_named_with_what_to_install(module, found, name, monkeypatch):
    monkeypatch.setattr(module, "__version__", found)
    with pytest.raises(ImportError, match=f'received {found}. Run `pip install "{name}>='):
        require_versions()


def test_keras_2_in_tensorflow_is_refused(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    with pytest.raises(ImportError, match="Unset it, and use Keras 3"):
        require_versions()
