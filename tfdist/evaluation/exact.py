"""The metrics of a whole set of predictions, exactly, for many weightings at once.

Every metric here is a function of weighted sums over the examples, or of an area under a
curve. `Metrics` prepares what does not depend on the weights (who is right, the order of the
scores), and is then called with one column of weights for the data set itself, and with
hundreds of columns by the bootstrap.

Precision, recall and F1 are 0 where they would be 0 / 0, as in scikit-learn. Macro averages
over classes that exclude each other are over those that occur, as a label or as a prediction.
"""

import numpy as np
from scipy import sparse

from tfdist.evaluation.ranking import Ranking

ECE_BINS = 15
MOST_SORTED = 20_000_000  # scores whose order is kept: some 16 bytes each
_TINY = np.finfo("float64").eps


class Metrics:
    """All scalar metrics of some predictions, as a function of weights.

    Args:
        predictions: `Predictions`.
        threshold: float; scores of at least it are positive. Not used by multiclass.
        areas: bool, whether to calculate the areas under ROC and PR curve, which take most
            of the time.
    """

    def __init__(self, predictions, threshold=0.5, areas=True):
        self.predictions = predictions
        predicted = predictions.predicted(threshold)
        actual = predictions.indicators
        if predictions.task == "multiclass":
            guess = (predicted[:, None] == np.arange(predictions.num_classes)).astype("int8")
        else:
            guess = predicted.reshape(len(predictions), -1).astype("int8")
        self._columns = actual.shape[1]
        self._means = {
            "correct": predictions.correct(threshold).astype("float64"),
            "brier": brier_of_examples(predictions),
            "log_loss": log_loss_of_examples(predictions),
        }
        if predictions.task == "multilabel":
            self._means["label_accuracy"] = (predicted == predictions.labels).mean(axis=1)
        means = np.stack([np.ones(len(predictions)), *self._means.values()], axis=1)
        counted = [means, actual & guess, actual, guess]
        self._sums = sparse.vstack(
            [sparse.csr_array(np.ascontiguousarray(one.T), dtype="float64") for one in counted]
            + [_calibration_gaps(predictions, predicted)],
            format="csr",
        )
        self._areas = areas
        self._sorted = None

    def __call__(self, weights):
        """Calculates all metrics.

        Args:
            weights: float64 (examples, weightings).

        Returns:
            Two dicts: of a metric's name to its values (weightings,); and of "precision",
            "recall", "f1", "support", "roc_auc" and "pr_auc" to (columns, weightings).
        """
        total, *sums = self._sums @ weights
        means = {name: sums.pop(0) / total for name in self._means}
        sums = np.stack(sums)
        k = self._columns
        hits, actual, guessed, gaps = sums[:k], sums[k : 2 * k], sums[2 * k : 3 * k], sums[3 * k :]
        table = {
            "precision": _ratio(hits, guessed),
            "recall": _ratio(hits, actual),
            "f1": _ratio(2 * hits, actual + guessed),
            "support": actual,
        }
        task = self.predictions.task
        if task == "binary":
            metrics = _binary(means, hits[0], actual[0], guessed[0], total, table)
        else:
            metrics = _of_many(means, hits, actual, guessed, total, table, task)
        if self._areas:
            areas = [ranking.areas(weights) for ranking in self._rankings()]
            for position, name in enumerate(("roc_auc", "pr_auc")):
                table[name] = np.stack([one[position] for one in areas])
                metrics[name] = self._macro(table[name], name)
        metrics["brier"] = means["brier"]
        metrics["log_loss"] = means["log_loss"]
        gaps = np.abs(gaps).reshape(-1, ECE_BINS, gaps.shape[1])
        metrics["ece"] = gaps.sum(axis=1).mean(axis=0) / total
        return metrics, table

    def _rankings(self):
        """A `Ranking` by each column, kept for the next call where that takes little memory."""
        if self._sorted is not None:
            return self._sorted
        scores, actual = self.predictions.columns, self.predictions.indicators
        made = (Ranking(scores[:, c], actual[:, c]) for c in range(self._columns))
        if scores.size > MOST_SORTED:
            return made
        self._sorted = list(made)
        return self._sorted

    def _macro(self, values, name):
        """Mean over the classes that a weighting holds; NaN if the data lack one.

        Without an example of a class, its ROC curve is undefined; the average precision is
        then 0, as in scikit-learn.
        """
        positives = self.predictions.indicators.sum(axis=0)
        if name == "roc_auc":
            lacking = (positives == 0) | (positives == len(self.predictions))
            if lacking.any():
                return np.full(values.shape[1], np.nan)
        else:
            values = np.where((positives == 0)[:, None], 0.0, values)
        defined = np.isfinite(values)
        return _ratio(np.where(defined, values, 0).sum(axis=0), defined.sum(axis=0), np.nan)


def _binary(means, hits, actual, guessed, total, table):
    true_negatives = total - actual - guessed + hits
    specificity = _ratio(true_negatives, total - actual)
    covariance = hits * total - actual * guessed
    spread = actual * (total - actual) * guessed * (total - guessed)
    sides = np.stack([actual > 0, total - actual > 0])
    recalls = np.stack([table["recall"][0], specificity])
    return {
        "accuracy": means["correct"],
        "balanced_accuracy": (recalls * sides).sum(axis=0) / sides.sum(axis=0),
        "precision": table["precision"][0],
        "recall": table["recall"][0],
        "specificity": specificity,
        "f1": table["f1"][0],
        "mcc": _correlation(covariance, spread),
    }


def _of_many(means, hits, actual, guessed, total, table, task):
    if task == "multilabel":
        metrics = {"exact_match": means["correct"], "label_accuracy": means["label_accuracy"]}
        occurs = np.ones(actual.shape, bool)
    else:
        metrics = {"accuracy": means["correct"]}
        present = actual > 0
        metrics["balanced_accuracy"] = _ratio(table["recall"].sum(axis=0), present.sum(axis=0))
        occurs = actual + guessed > 0
    micro = {
        "precision": _ratio(hits.sum(axis=0), guessed.sum(axis=0)),
        "recall": _ratio(hits.sum(axis=0), actual.sum(axis=0)),
        "f1": _ratio(2 * hits.sum(axis=0), (actual + guessed).sum(axis=0)),
    }
    for name in ("precision", "recall", "f1"):
        values = table[name]
        metrics[f"{name}_macro"] = (values * occurs).sum(axis=0) / occurs.sum(axis=0)
        metrics[f"{name}_micro"] = micro[name]
        metrics[f"{name}_weighted"] = _ratio((values * actual).sum(axis=0), actual.sum(axis=0))
    if task == "multiclass":
        covariance = hits.sum(axis=0) * total - (actual * guessed).sum(axis=0)
        spread = total**2 - (actual**2).sum(axis=0)
        spread = spread * (total**2 - (guessed**2).sum(axis=0))
        metrics["mcc"] = _correlation(covariance, spread)
    return metrics


def _correlation(covariance, spread):
    """0 where one side does not vary, as in scikit-learn."""
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def _ratio(numerator, denominator, otherwise=0.0):
    result = np.full(np.shape(numerator), otherwise, "float64")
    return np.divide(numerator, denominator, out=result, where=np.asarray(denominator) > 0)


def brier_of_examples(predictions):
    """Squared error of the probabilities; summed over classes, averaged over labels."""
    errors = (predictions.columns - predictions.indicators) ** 2
    return errors.sum(axis=1) if predictions.task == "multiclass" else errors.mean(axis=1)


def log_loss_of_examples(predictions):
    """Minus the log of the true class's probability; averaged over labels.

    Probabilities are kept within the float64 epsilon of 0 and 1, as in scikit-learn.
    """
    actual, scores = predictions.indicators, predictions.columns
    if predictions.task == "multiclass":
        scores = scores / scores.sum(axis=1, keepdims=True)
        of_truth = (scores * actual).sum(axis=1)
        return -np.log(np.clip(of_truth, _TINY, 1 - _TINY))
    of_truth = np.clip(np.where(actual, scores, 1 - scores), _TINY, 1 - _TINY)
    return -np.log(of_truth).mean(axis=1)


def calibration_pairs(predictions, predicted):
    """What a calibration curve compares: confidences and outcomes, (examples, columns)."""
    if predictions.task != "multiclass":
        return predictions.columns, predictions.indicators.astype("float64")
    top = np.take_along_axis(predictions.scores, predicted[:, None], axis=1)
    return top, (predicted == predictions.labels).astype("float64")[:, None]


def bins_of(confidences, bins=ECE_BINS):
    """The bin of each confidence: ((m - 1) / bins, m / bins], with 0 in the first."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, bins - 1)


def _calibration_gaps(predictions, predicted):
    """Sparse (columns * bins, examples): outcome minus confidence, in the bin's row."""
    confidences, outcomes = calibration_pairs(predictions, predicted)
    examples, columns = confidences.shape
    rows = bins_of(confidences) + ECE_BINS * np.arange(columns)
    where = np.broadcast_to(np.arange(examples)[:, None], rows.shape)
    return sparse.csr_array(
        ((outcomes - confidences).ravel(), (rows.ravel(), where.ravel())),
        shape=(columns * ECE_BINS, examples),
    )
