"""Hyper-parameter search, and learning rates for large batches; imported when first used."""

import importlib

# public name -> the module that defines it
_NAMES = {
    "search": "tfdist.tuning.search",
    "SearchResults": "tfdist.tuning.results",
    "ScaledLearningRate": "tfdist.tuning.learning_rate",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tfdist.tuning' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
