"""ROC, precision-recall and calibration curves."""

import numpy as np
from sklearn import metrics

from tfdist.evaluation.exact import ECE_BINS, bins_of, calibration_pairs


def curves_of(predictions):
    """Calculates the curves of each class, one against the rest.

    Args:
        predictions: `Predictions`.

    Returns:
        A dict:

        - "roc": class name -> dict of "fpr", "tpr" and "thresholds"; without the classes of
          which there is no example, or no other. A threshold of infinity: no positives.
        - "pr": class name -> dict of "recall", "precision" and "thresholds"; without the
          classes of which there is no example.
        - "calibration": class name, or "top class" for multiclass -> dict of "confidence",
          "frequency" and "weight", for each of 15 equal bins that is not empty.

        Binary curves are those of class 1.
    """
    names = predictions.class_names[-1:] if predictions.task == "binary" else None
    names = names or predictions.class_names
    roc, pr = {}, {}
    actual, scores, weights = predictions.indicators, predictions.columns, predictions.weights
    for column, name in enumerate(names):
        truth, score = actual[:, column], scores[:, column]
        if not truth.any():
            continue
        precision, recall, thresholds = metrics.precision_recall_curve(
            truth, score, sample_weight=weights, drop_intermediate=True
        )
        pr[name] = {"recall": recall, "precision": precision}
        pr[name]["thresholds"] = np.r_[thresholds, np.inf]  # no positives: the last point
        if not truth.all():
            fpr, tpr, thresholds = metrics.roc_curve(truth, score, sample_weight=weights)
            roc[name] = {"fpr": fpr, "tpr": tpr, "thresholds": thresholds}
    return {"roc": roc, "pr": pr, "calibration": _calibration(predictions, names)}


def _calibration(predictions, names):
    predicted = predictions.predicted(0.5)  # of use for multiclass, where it is the argmax
    confidences, outcomes = calibration_pairs(predictions, predicted)
    if predictions.task == "multiclass":
        names = ["top class"]
    found = {}
    for column, name in enumerate(names):
        bins = bins_of(confidences[:, column])

        def total(values, bins=bins):
            return np.bincount(bins, predictions.weights * values, minlength=ECE_BINS)

        weight = total(1.0)
        used = weight > 0
        found[name] = {
            "confidence": total(confidences[:, column])[used] / weight[used],
            "frequency": total(outcomes[:, column])[used] / weight[used],
            "weight": weight[used],
        }
    return found


def thinned(curve, points=200):
    """At most `points` points of a curve, the first and the last among them.

    Args:
        curve: dict of arrays.
        points: int.

    Returns:
        A dict of arrays of the same length.
    """
    length = len(next(iter(curve.values())))
    if length <= points:
        return curve
    places = np.unique(np.linspace(0, length - 1, points).round().astype(int))
    return {name: values[places] for name, values in curve.items()}
