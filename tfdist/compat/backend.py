"""Keras must be the one that runs on TensorFlow, and both of versions that were tried."""

import os
import re

import keras
import tensorflow as tf

# The same bounds as in setup.cfg (a test compares them): private names move with each release.
NEEDED = {"tensorflow": ("2.21", "2.22"), "keras": ("3.15", "3.16")}


def require_tensorflow() -> None:
    """Raises unless Keras' backend is TensorFlow; nothing in tfdist works with another.

    Raises:
        ImportError: it is another one.
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ImportError(
            f"tfdist distributes Keras on TensorFlow; Keras' backend is {backend!r}. Set "
            'KERAS_BACKEND=tensorflow in the environment, or "backend": "tensorflow" in '
            "~/.keras/keras.json, before Keras is imported."
        )


def require_versions() -> None:
    """Raises unless TensorFlow and Keras are of versions that tfdist knows.

    `pip` sees to it; where it was told to look away, what follows would fail in obscure ways.

    Raises:
        ImportError: one of them is older or newer, or `tf.keras` is Keras 2.
    """
    for name, found in (("tensorflow", tf.__version__), ("keras", keras.__version__)):
        least, below = NEEDED[name]
        if not _numbers(least) <= _numbers(found) < _numbers(below):
            raise ImportError(
                f"tfdist works with {name} from {least} on and below {below}; received {found}. "
                f'Run `pip install "{name}>={least},<{below}"`.'
            )
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        raise ImportError(
            "TF_USE_LEGACY_KERAS is set, so `tf.keras` is Keras 2, which tfdist does not "
            "distribute. Unset it, and use Keras 3 (`import keras`)."
        )


def _numbers(version):
    """(2, 21) of "2.21.0-rc1"."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
