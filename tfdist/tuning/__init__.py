"""Hyper-parameter search, and learning rates for large batches; imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.tuning.learning_rate import ScaledLearningRate as ScaledLearningRate
    from tfdist.tuning.results import SearchResults as SearchResults
    from tfdist.tuning.search import search as search

# public name -> the module that defines it
_NAMES = {
    "search": "tfdist.tuning.search",
    "SearchResults": "tfdist.tuning.results",
    "ScaledLearningRate": "tfdist.tuning.learning_rate",
}

__all__ = [*_NAMES]


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module 'tfdist.tuning' has no attribute {name!r}")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
