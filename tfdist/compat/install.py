"""Puts the patches in place, once, when the first strategy is made."""

import threading

_lock = threading.Lock()
_installed = False


def install():
    """Patches Keras where a tfdist strategy needs it. Idempotent."""
    global _installed
    with _lock:
        if _installed:
            return
        from tfdist.compat import (
            average_loss,
            embeddings,
            epoch_iterator,
            inputs,
            losses,
            normalization,
            optimizer,
            py_dataset,
            random,
            saving,
            swap_ema,
            tape,
            trainer,
            variables,
        )

        for module in (
            average_loss,
            embeddings,
            epoch_iterator,
            inputs,
            losses,
            normalization,
            optimizer,
            py_dataset,
            random,
            saving,
            swap_ema,
            tape,
            trainer,
            variables,
        ):
            module.install()
        _installed = True


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
