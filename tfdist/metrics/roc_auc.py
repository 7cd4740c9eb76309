"""The area under the ROC curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import numpy as np

from tfdist.metrics import areas
from tfdist.metrics.binned import BinnedMetric

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfdist")
class ROCAUC(BinnedMetric):
    """The area under the receiver operating characteristic, with a bound of its error.

    `keras.metrics.AUC` has 200 thresholds, evenly spaced; where scores crowd near 0 and 1 it
    sees few of them. Here the state is the weight of both labels in some 120,000 bins, fine
    near 0 and 1, which are summed over replicas and workers. Between bins the order of
    scores is known and within one it is not, so the error is at most half the pairs of a
    positive and a negative that share a bin: `error_bound()` says how much that is for the
    scores that were seen. Exact areas: `tfdist.evaluate`.

    With more than two classes: one against the rest.

    Example:

    >>> import tfdist
    >>> auc = tfdist.metrics.ROCAUC()
    >>> auc.update_state([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> float(auc.result())
    0.75
    >>> bool(auc.error_bound() < 1e-10)
    True

    In `model.compile(..., metrics=[tfdist.metrics.ROCAUC(from_logits=True)])` it is the area of
    all examples of the epoch, on any number of replicas.

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        average: `"macro"`: the mean over classes; `"weighted"`: by the classes' weights;
            `"micro"`: of all pairs of an example and a class together.
        from_logits: bool; whether scores are logits. Those of more than two classes go
            through softmax (with `multi_label` each is its own question: their order counts).
        multi_label: bool; whether labels are multi-hot.
        num_bins: int; how many bins a class may have at most. The default makes 131,072 over all
            classes, but at least 4,096 each: 16 bytes a bin.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: shapes that do not fit each other; when the result is read: labels out of
            range, scores outside of 0 to 1 without `from_logits`.

    Reference:

    - Hanley and McNeil, 1982, "The meaning and use of the area under a receiver operating
      characteristic (ROC) curve".
    """

    default_name = "roc_auc"
    _consequence = "its area under the ROC curve is not defined, and NaN"

    def areas(self, negatives: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        return areas.roc_area(negatives, positives)

    def bounds(
        self, negatives: tf.Tensor, positives: tf.Tensor, tied: tf.Tensor, weighted: tf.Tensor
    ) -> tf.Tensor:
        return areas.roc_bound(negatives, positives, tied)

    def curve(self, class_id: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The ROC curve, from `(0, 0)` to `(1, 1)`, a point for each bin with scores in it.

        All workers must call it together, as they must read any metric.

        Args:
            class_id: int; of which class, where there are more than two.

        Returns:
            `(false_positive_rates, true_positive_rates, thresholds)`, float64 arrays of one
            length; the first threshold is infinite.

        Raises:
            ValueError: there were no data yet, or there is no such class.
        """
        thresholds, false, true = self._counts_of_curve(class_id)
        rates = [_rate(np.concatenate([[0.0], counts])) for counts in (false, true)]
        return *rates, np.concatenate([[np.inf], thresholds])

    @staticmethod
    def _undefined(negatives, positives):
        return negatives == 0 or positives == 0


def _rate(counts):
    return counts / counts[-1] if counts[-1] else np.full_like(counts, np.nan)
