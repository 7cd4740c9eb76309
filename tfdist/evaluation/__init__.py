"""What a person reads of a trained model and decides by, imported when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfdist.evaluation.comparison import Comparison as Comparison
    from tfdist.evaluation.comparison import compare as compare
    from tfdist.evaluation.report import EvaluationReport as EvaluationReport
    from tfdist.evaluation.temperature import TemperatureScaling as TemperatureScaling
    from tfdist.evaluation.temperature import fit_temperature as fit_temperature
    from tfdist.evaluation.threshold import Threshold as Threshold
    from tfdist.evaluation.threshold import best_threshold as best_threshold

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


if not TYPE_CHECKING:  # else a type checker takes any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(f"module 'tfdist.evaluation' has no attribute {name!r}")
        value = getattr(importlib.import_module(_NAMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
