"""Metrics for `model.compile`, exact on any number of replicas; imported when first used.

`keras.models.load_model` finds those of a saved model once they were imported:
`from tfdist.metrics import *`.

What Keras has and has right has no twin here. That is what is a mean or a sum over the
examples, which `tfdist`'s strategies make global:

- accuracy: `BinaryAccuracy`, `CategoricalAccuracy`, `SparseCategoricalAccuracy`, the top-k two;
- errors: `MeanSquaredError`, `RootMeanSquaredError`, `MeanAbsoluteError` and the like;
- losses: the cross-entropies, `KLDivergence`, `Poisson`, the hinge losses;
- `CosineSimilarity`, and `MeanIoU` and its kin.

They add up in float32, which counts to 2**24 one by one. What is not right: `AUC` and its kin
(200 thresholds, evenly spaced); `Precision` and `Recall` of several classes (all columns go
through one threshold) and `F1Score` (1e-7 below its fractions, classes that never occur);
`R2Score` where the targets' mean is large (differences of large float32 sums); and
`PearsonCorrelation` is one of each example's own columns.
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
