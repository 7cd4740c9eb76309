"""Keras must be the one that runs on TensorFlow."""

import keras


def require_tensorflow():
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
