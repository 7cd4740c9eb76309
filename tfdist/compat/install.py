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
            layout,
            losses,
            means,
            normalization,
            optimizer,
            py_dataset,
            random,
            saving,
            swap_ema,
            symbolic_build,
            tape,
            trainer,
            variables,
        )

        for module in (
            average_loss,
            embeddings,
            epoch_iterator,
            inputs,
            layout,
            losses,
            means,
            normalization,
            optimizer,
            py_dataset,
            random,
            saving,
            swap_ema,
            symbolic_build,
            tape,
            trainer,
            variables,
        ):
            module.install()
        _installed = True
