"""What a person reads of a trained model and decides by, imported when it is first used."""

import importlib

# public name -> the module that defines it
_NAMES = {
    "EvaluationReport": "tfdist.evaluation.report",
    "Comparison": "tfdist.evaluation.comparison",
    "compare": "tfdist.evaluation.comparison",
    "Threshold": "tfdist.evaluation.threshold",
    "best_threshold": "tfdist.evaluation.threshold",
    "TemperatureScaling": "tfdist.evaluation.temperature",
    "fit_temperature": "tfdist.evaluation.temperature",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tfdist.evaluation' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
