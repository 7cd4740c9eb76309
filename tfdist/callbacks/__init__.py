"""What a user adds to `fit`, imported when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.callbacks.async_sgd import AsyncSGD as AsyncSGD
    from tfdist.callbacks.checkpoint import Checkpoint as Checkpoint
    from tfdist.callbacks.diloco import DiLoCo as DiLoCo
    from tfdist.callbacks.local_sgd import LocalSGD as LocalSGD
    from tfdist.callbacks.partial_sync import PartialSync as PartialSync
    from tfdist.callbacks.sync_sgd import SyncSGD as SyncSGD

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


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module 'tfdist.callbacks' has no attribute {name!r}")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
