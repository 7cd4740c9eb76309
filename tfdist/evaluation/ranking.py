"""The areas under ROC and precision-recall curve, for many weightings of the examples."""

import numpy as np


class Ranking:
    """Examples in the order of one score; sorted once.

    Args:
        scores: float (examples,).
        positive: (examples,) of 0 and 1.
    """

    def __init__(self, scores, positive):
        examples = len(scores)
        self._order = order = np.argsort(scores, kind="stable")
        ordered = scores[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        ends = np.r_[starts[1:], examples]
        places = np.flatnonzero(positive[order])
        ties = np.searchsorted(starts, places, side="right") - 1
        self._positives = order[places]
        # Of each positive example: where those of its score begin and end, among all
        # examples and among the positive ones.
        self._first, self._last = starts[ties], ends[ties]
        self._first_positive = np.searchsorted(places, self._first)
        self._last_positive = np.searchsorted(places, self._last)

    def areas(self, weights):
        """Calculates both areas.

        The first is the chance that a positive example has a higher score than a negative
        one, ties counting half (Mann and Whitney); the second is the average precision, the
        mean of the precision at the score of each positive example.

        Args:
            weights: float64 (examples, weightings).

        Returns:
            Two arrays (weightings,); NaN where a weighting lacks the examples.
        """
        weight = weights[self._positives]
        everyone = _running(weights[self._order])
        positives = _running(weight)
        below, below_positive = everyone[self._first], positives[self._first_positive]
        through, through_positive = everyone[self._last], positives[self._last_positive]
        twice_negatives = (below - below_positive) + (through - through_positive)
        total, total_positive = everyone[-1], positives[-1]
        above = total - below
        precision = np.divide(
            total_positive - below_positive, above, out=np.zeros_like(above), where=above > 0
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = (weight * twice_negatives).sum(axis=0) / (
                2 * total_positive * (total - total_positive)
            )
            precision = (weight * precision).sum(axis=0) / total_positive
        roc[(total_positive <= 0) | (total - total_positive <= 0)] = np.nan
        precision[total_positive <= 0] = np.nan
        return roc, precision


def _running(weights):
    """Row i: the sum of the first i rows."""
    sums = np.zeros((len(weights) + 1, weights.shape[1]))
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums
