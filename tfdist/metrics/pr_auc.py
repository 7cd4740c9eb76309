"""The area under the precision-recall curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from tfdist.metrics import areas
from tfdist.metrics.binned import BinnedMetric

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfdist")
class PRAUC(BinnedMetric):
    """The area under the precision-recall curve (average precision), with a bound of its error.

    `sum over thresholds of (recall - recall before) * precision`, as scikit-learn's
    `average_precision_score`; the points are not joined by lines, which would be too
    optimistic. State and bins are those of `ROCAUC`; `error_bound()` is certified by the best
    and the worst order of the scores within their bins.

    Example:

    >>> import tfdist
    >>> auc = tfdist.metrics.PRAUC()
    >>> auc.update_state([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> round(float(auc.result()), 4)
    0.8333

    Args: see `ROCAUC`.

    Raises:
        ValueError: see `ROCAUC`.

    Reference:

    - Davis and Goadrich, 2006, "The relationship between Precision-Recall and ROC curves".
    """

    default_name = "pr_auc"
    _consequence = "its area under the precision-recall curve is 0"

    def areas(self, negatives: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        return areas.pr_area(negatives, positives)

    def bounds(
        self, negatives: tf.Tensor, positives: tf.Tensor, tied: tf.Tensor, weighted: tf.Tensor
    ) -> tf.Tensor:
        return areas.pr_bound(negatives, positives, tied, weighted)

    def curve(self, class_id: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The precision-recall curve, a point for each bin with scores in it.

        All workers must call it together, as they must read any metric.

        Args:
            class_id: int; of which class, where there are more than two.

        Returns:
            `(precisions, recalls, thresholds)`, float64 arrays of one length, from the
            highest threshold, which is infinite, to the lowest.

        Raises:
            ValueError: there were no data yet, or there is no such class.
        """
        thresholds, false, true = self._counts_of_curve(class_id)
        recalls = true / true[-1] if true[-1] else np.full_like(true, np.nan)
        precisions = np.concatenate([[1.0], true / (true + false)])
        return precisions, np.concatenate([[0.0], recalls]), np.concatenate([[np.inf], thresholds])

    @staticmethod
    def _undefined(negatives, positives):
        return positives == 0
