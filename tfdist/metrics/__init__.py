"""Metrics for `model.compile`, exact on any number of replicas.

All are imported with the room: `keras.models.load_model` then knows those of a saved model.

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

from tfdist.metrics.balanced_accuracy import BalancedAccuracy
from tfdist.metrics.brier_score import BrierScore
from tfdist.metrics.calibration_error import ExpectedCalibrationError
from tfdist.metrics.confusion_matrix import ConfusionMatrix
from tfdist.metrics.entity_f1_score import EntityF1Score
from tfdist.metrics.f1_score import F1Score
from tfdist.metrics.matthews_correlation import MatthewsCorrelation
from tfdist.metrics.pr_auc import PRAUC
from tfdist.metrics.precision import Precision
from tfdist.metrics.recall import Recall
from tfdist.metrics.roc_auc import ROCAUC

__all__ = [
    "ConfusionMatrix",
    "Precision",
    "Recall",
    "F1Score",
    "BalancedAccuracy",
    "MatthewsCorrelation",
    "BrierScore",
    "ExpectedCalibrationError",
    "EntityF1Score",
    "ROCAUC",
    "PRAUC",
]
