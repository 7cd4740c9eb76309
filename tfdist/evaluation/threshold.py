"""The score from which on a binary classifier should say yes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from tfdist.pages import tables

if TYPE_CHECKING:
    import numpy.typing as npt

    from tfdist.evaluation.report import EvaluationReport


@dataclasses.dataclass(frozen=True)
class Threshold:
    """A decision threshold, and what it reached on the data that it was chosen on.

    These numbers are optimistic: score the threshold on other data, by
    `tfdist.evaluate(model, test, threshold=threshold)`, which warns if they are not others.

    Attributes:
        value: float; a score of at least it is positive.
        objective: str, what was sought.
        score: float, the objective's value there; the mean cost of an example for "cost".
        precision: float.
        recall: float.
        f1: float.
        accuracy: float.
        positives: float, the share of the examples that are called positive.
        chosen_on: str, a fingerprint of the labels, scores and weights.
    """

    value: float
    objective: str
    score: float
    precision: float
    recall: float
    f1: float
    accuracy: float
    positives: float
    chosen_on: str = dataclasses.field(repr=False)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return (
            f"threshold {self.value:.6g}: {self.objective} {tables.number(self.score)}, precision "
            f"{tables.number(self.precision)}, recall {tables.number(self.recall)} on the data "
            "that it was chosen on"
        )


def best_threshold(
    report: EvaluationReport,
    maximize: str | None = None,
    *,
    costs: npt.ArrayLike | None = None,
    recall_at_precision: float | None = None,
    precision_at_recall: float | None = None,
) -> Threshold:
    """Finds the best decision threshold on validation data.

    Exact: it looks at every set of positives that some threshold makes. The value lies in
    the middle between the lowest score above it and the highest below. Of equally good
    thresholds it takes the highest.

    Choose it on validation data and score it on test data: on the data that it was chosen on
    it looks better than it is.

    Example:

    ```python
    threshold = tfdist.evaluation.best_threshold(tfdist.evaluate(model, validation), "f1")
    report = tfdist.evaluate(model, test, threshold=threshold)

    # a miss costs 50 times what a false alarm does
    tfdist.evaluation.best_threshold(report, costs=[[0, 1], [50, 0]])
    tfdist.evaluation.best_threshold(report, recall_at_precision=0.95)
    ```

    Args:
        report: an `EvaluationReport` of a binary task.
        maximize: "f1" (the default), "accuracy", "balanced_accuracy" or "mcc".
        costs: in place of `maximize`: [[true negative, false positive], [false negative, true
            positive]], the cost of each outcome; the mean cost is minimized.
        recall_at_precision: in place of `maximize`: float, the lowest precision allowed; the
            recall is maximized, then the precision.
        precision_at_recall: in place of `maximize`: float, the lowest recall allowed; the
            precision is maximized, then the recall.

    Returns:
        A `Threshold`.

    Raises:
        ValueError: another task; several aims, or an unknown one; costs that are not 2 x 2; a
            class without examples; a precision that no threshold reaches (the error says the
            best that is reachable).

    Reference:
        Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
    """
    if report.task != "binary":
        raise ValueError(
            f"A decision threshold is for binary tasks; received a report of a {report.task} "
            "task. Evaluate one label at a time: `tfdist.evaluate(lambda x: model(x)[:, 3], "
            "(x, y[:, 3]))`."
        )
    aims = {
        "maximize": maximize,
        "costs": costs,
        "recall_at_precision": recall_at_precision,
        "precision_at_recall": precision_at_recall,
    }
    given = [name for name, value in aims.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"Received {' and '.join(given)}: expected one aim. Pass one of them.")
    outcomes = _Outcomes(report.labels, report.scores, report.weights)
    for number, total in enumerate((outcomes.negatives, outcomes.positives)):
        if total == 0:
            raise ValueError(
                f"The report holds no example of class {report.class_names[number]!r}; expected "
                "both classes. Choose the threshold on other data."
            )
    if costs is not None:
        objective, score, best = _cheapest(outcomes, costs)
    elif recall_at_precision is not None:
        objective, score, best = _constrained(
            outcomes, "recall", "precision", recall_at_precision, "recall_at_precision"
        )
    elif precision_at_recall is not None:
        objective, score, best = _constrained(
            outcomes, "precision", "recall", precision_at_recall, "precision_at_recall"
        )
    else:
        objective = "f1" if maximize is None else maximize
        if objective not in _OBJECTIVES:
            raise ValueError(f"maximize={maximize!r}: expected one of {_OBJECTIVES}.")
        values = getattr(outcomes, objective)
        best = int(np.argmax(values))
        score = values[best]
    return Threshold(
        value=outcomes.value(best),
        objective=objective,
        score=float(score),
        precision=float(outcomes.precision[best]),
        recall=float(outcomes.recall[best]),
        f1=float(outcomes.f1[best]),
        accuracy=float(outcomes.accuracy[best]),
        positives=float((outcomes.tp + outcomes.fp)[best] / outcomes.total),
        chosen_on=report.predictions.fingerprint,
    )


_OBJECTIVES = ("f1", "accuracy", "balanced_accuracy", "mcc")


class _Outcomes:
    """What comes of each threshold, from the highest (no positives) to the lowest (all)."""

    def __init__(self, labels, scores, weights):
        self.scores, which = np.unique(-scores, return_inverse=True)
        self.scores = -self.scores  # from high to low
        self.tp = np.r_[0.0, np.cumsum(np.bincount(which, weights * labels))]
        self.fp = np.r_[0.0, np.cumsum(np.bincount(which, weights * (1 - labels)))]
        self.positives, self.negatives = self.tp[-1], self.fp[-1]
        self.total = self.positives + self.negatives
        self.fn, self.tn = self.positives - self.tp, self.negatives - self.fp
        guessed = self.tp + self.fp
        self.precision = np.divide(self.tp, guessed, out=np.zeros_like(guessed), where=guessed > 0)

    def value(self, index):
        """The threshold that makes the `index` highest scores positive."""
        above = self.scores[index - 1] if index else None
        below = self.scores[index] if index < len(self.scores) else 0.0
        if above is None:
            return float((below + 1) / 2 if below < 1 else np.nextafter(below, np.inf))
        middle = (above + below) / 2
        return float(middle if middle > below else above)

    @property
    def recall(self):
        return self.tp / self.positives

    @property
    def f1(self):
        return 2 * self.tp / (self.positives + self.tp + self.fp)

    @property
    def accuracy(self):
        return (self.tp + self.tn) / self.total

    @property
    def balanced_accuracy(self):
        return (self.tp / self.positives + self.tn / self.negatives) / 2

    @property
    def mcc(self):
        guessed = self.tp + self.fp
        spread = np.sqrt(guessed * (self.total - guessed) * self.positives * self.negatives)
        covariance = self.tp * self.tn - self.fp * self.fn
        return np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0)


def _cheapest(outcomes, costs):
    costs = np.asarray(costs, "float64")
    if costs.shape != (2, 2) or not np.isfinite(costs).all():
        raise ValueError(
            f"Received costs of shape {costs.shape}: {costs.tolist()}; expected finite numbers "
            "[[true negative, false positive], [false negative, true positive]]."
        )
    (tn, fp), (fn, tp) = costs
    mean = tn * outcomes.tn + fp * outcomes.fp + fn * outcomes.fn + tp * outcomes.tp
    mean = mean / outcomes.total
    best = int(np.argmin(mean))
    return "cost", mean[best], best


def _constrained(outcomes, sought, bounded, bound, argument):
    if not 0 < bound <= 1:
        raise ValueError(f"{argument}={bound!r}: expected a number above 0, at most 1.")
    limited, wanted = getattr(outcomes, bounded), getattr(outcomes, sought)
    allowed = np.flatnonzero(limited >= bound)
    if not len(allowed):
        best = int(np.argmax(limited))
        raise ValueError(
            f"No threshold has a {bounded} of {bound:g}; the best that is reachable is "
            f"{limited[best]:.6g}, at a {sought} of {wanted[best]:.6g}. Ask for less, or improve "
            "the model."
        )
    order = np.lexsort((-limited[allowed], -wanted[allowed]))
    best = int(allowed[order[0]])
    return f"{sought} at {bounded} {bound:g}", wanted[best], best
