"""What a user adds to `fit`, imported when it is first used."""

import importlib

# public name -> the module that defines it
_NAMES = {
    "Checkpoint": "tfdist.callbacks.checkpoint",
    "SyncSGD": "tfdist.callbacks.sync_sgd",
    "LocalSGD": "tfdist.callbacks.local_sgd",
    "DiLoCo": "tfdist.callbacks.diloco",
    "PartialSync": "tfdist.callbacks.partial_sync",
    "AsyncSGD": "tfdist.callbacks.async_sgd",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tfdist.callbacks' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
