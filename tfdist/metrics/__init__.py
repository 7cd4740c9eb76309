"""Metrics for `model.compile`, exact on any number of replicas; imported when first used.

What Keras' own do right is not made again: `SparseCategoricalAccuracy` and the other
accuracies, `MeanSquaredError`, losses as metrics and all other means over examples are
global and exact under tfdist's strategies.
"""

import importlib

# public name -> the module that defines it
_NAMES = {
    "ConfusionMatrix": "tfdist.metrics.confusion_matrix",
    "Precision": "tfdist.metrics.precision",
    "Recall": "tfdist.metrics.recall",
    "F1Score": "tfdist.metrics.f1_score",
    "BalancedAccuracy": "tfdist.metrics.balanced_accuracy",
    "MatthewsCorrelation": "tfdist.metrics.matthews_correlation",
    "BrierScore": "tfdist.metrics.brier_score",
    "ExpectedCalibrationError": "tfdist.metrics.calibration_error",
    "EntityF1Score": "tfdist.metrics.entity_f1_score",
    "ROCAUC": "tfdist.metrics.roc_auc",
    "PRAUC": "tfdist.metrics.pr_auc",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tfdist.metrics' has no attribute {name!r}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
