"""How a name of Keras or TensorFlow is replaced."""


def replace(owner, name, make):
    """Replaces `owner.name` by `make(original)`, and says so if it is gone."""
    original = getattr(owner, name, None)
    if original is None:
        import keras
        import tensorflow as tf

        raise ImportError(
            f"tfdist needs `{owner.__module__ if hasattr(owner, '__module__') else owner.__name__}"
            f".{getattr(owner, '__name__', '')}.{name}`, which Keras {keras.__version__} with "
            f"TensorFlow {tf.__version__} does not have. Install the versions that this release "
            "of tfdist was tested with (see setup.cfg), or a newer tfdist."
        )
    replacement = make(original)
    replacement.__name__ = name
    replacement.__doc__ = original.__doc__
    replacement.__wrapped__ = original
    setattr(owner, name, replacement)
