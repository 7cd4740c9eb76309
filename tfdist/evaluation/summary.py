"""From predictions to a report: the values, their intervals, the tables."""

import math
import warnings

import numpy as np
from sklearn import metrics
from sklearn.exceptions import UndefinedMetricWarning

from tfdist.evaluation.bootstrap import WITHOUT_AREAS, affords_areas, draw, interval
from tfdist.evaluation.exact import Metrics
from tfdist.evaluation.report import Estimate, EvaluationReport


def summarise(name, predictions, threshold, groups, confidence, resamples, seed):
    """Calculates all that a report shows.

    Args:
        name: str, the model's name.
        predictions: `Predictions`.
        threshold: float; None for multiclass.
        groups: dict of a column's name to a dict of its values to a bool array (examples,).
        confidence: float, of the intervals.
        resamples: int; 0 for no intervals.
        seed: int.

    Returns:
        An `EvaluationReport`.

    Warns:
        UndefinedMetricWarning: a class has no example; once.
    """
    notes = []
    lacking = _lacking(predictions)
    if lacking:
        notes.append(lacking)
        warnings.warn(lacking, UndefinedMetricWarning, stacklevel=3)
    cutoff = 0.5 if threshold is None else threshold
    every = Metrics(predictions, cutoff)
    values, table = every(predictions.weights[:, None])
    if resamples and not affords_areas(predictions, resamples):
        notes.append(WITHOUT_AREAS)
    matrix = confusion_matrix(predictions, cutoff)
    return EvaluationReport(
        name=name,
        predictions=predictions,
        threshold=threshold,
        metrics=_estimates(every, values, predictions, cutoff, confidence, resamples, seed),
        per_class=_per_class(predictions, table, cutoff),
        confusion_matrix=matrix,
        slices={
            column: {
                value: _slice(predictions.subset(keep), cutoff, confidence, resamples, seed)
                for value, keep in of.items()
            }
            for column, of in groups.items()
        },
        confidence=confidence,
        bootstrap=resamples,
        seed=seed,
        notes=notes,
    )


def _estimates(calculate, values, predictions, cutoff, confidence, resamples, seed):
    if not resamples:
        return {name: Estimate(float(one[0])) for name, one in values.items()}
    if not affords_areas(predictions, resamples):
        calculate = Metrics(predictions, cutoff, areas=False)
    (drawn,) = draw([calculate], predictions.weights, resamples, seed)
    found = {}
    for name, one in values.items():
        value = float(one[0])
        defined = name in drawn and math.isfinite(value)
        ends = interval(drawn[name], confidence) if defined else ()
        found[name] = Estimate(value, *ends)
    return found


def _slice(predictions, cutoff, confidence, resamples, seed):
    calculate = Metrics(predictions, cutoff)
    values, _ = calculate(predictions.weights[:, None])
    found = _estimates(calculate, values, predictions, cutoff, confidence, resamples, seed)
    return {"n": len(predictions), "metrics": found}


def _lacking(predictions):
    """What the data have no example of, as a sentence, or None."""
    names = predictions.class_names
    positives = predictions.indicators.sum(axis=0)
    if predictions.task == "binary":
        positives = np.array([len(predictions) - positives[0], positives[0]])
    without = [repr(name) for name, count in zip(names, positives) if count == 0]
    if predictions.task == "multilabel":
        full = len(predictions)
        without += [f"not {n!r}" for n, count in zip(names, positives) if count == full]
    if not without:
        return None
    shown = ", ".join(without[:10]) + (f" and {len(without) - 10} more" if without[10:] else "")
    return f"The data hold no example of class {shown}: ROC AUC is NaN, as in scikit-learn."


def confusion_matrix(predictions, threshold):
    """Sums of weights: (true classes, predicted classes), or (labels, 2, 2) for multilabel."""
    predicted = predictions.predicted(threshold)
    if predictions.task != "multilabel":
        return metrics.confusion_matrix(
            predictions.labels,
            predicted,
            labels=np.arange(predictions.num_classes),
            sample_weight=predictions.weights,
        ).astype("float64")
    cells = 2 * predictions.labels + predicted
    counts = [np.bincount(one, predictions.weights, minlength=4) for one in cells.T]
    return np.stack(counts).reshape(-1, 2, 2)


def _per_class(predictions, table, cutoff):
    if predictions.task == "binary":
        columns = metrics.precision_recall_fscore_support(
            predictions.labels,
            predictions.predicted(cutoff),
            labels=[0, 1],
            zero_division=0,
            sample_weight=predictions.weights,
        )
        names = ("precision", "recall", "f1", "support")
        table = {name: np.asarray(values)[:, None] for name, values in zip(names, columns)}
    return {
        name: {key: float(values[number, 0]) for key, values in table.items()}
        for number, name in enumerate(predictions.class_names)
    }
