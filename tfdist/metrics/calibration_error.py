"""Whether what is predicted with 80 % happens in 80 % of the cases."""

import keras
import numpy as np
import tensorflow as tf

from tfdist.metrics.base import SummedMetric
from tfdist.metrics.brier_score import probabilities


@keras.saving.register_keras_serializable(package="tfdist")
class ExpectedCalibrationError(SummedMetric):
    """The expected calibration error: the mean distance of confidence and accuracy.

    Examples are put into bins of equal width by their confidence, `((m - 1) / M, m / M]`. With
    w_m the share of the examples in a bin:

        sum_m w_m |accuracy_m - mean confidence_m|

    Scores of one column: the confidence is the probability of class 1, and the accuracy the
    share of class 1. Of more columns: the highest probability, and how often it is right.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.ExpectedCalibrationError()
    >>> metric.update_state([1, 1, 0, 1], [0.75, 0.75, 0.75, 0.75])
    >>> float(metric.result())
    0.0

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        num_bins: int; M.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Guo et al., 2017, "On calibration of modern neural networks" (1706.04599).
    """

    def __init__(
        self,
        num_classes=None,
        num_bins=15,
        from_logits=False,
        name="expected_calibration_error",
        dtype=None,
    ):
        if not isinstance(num_bins, int) or num_bins < 1:
            raise ValueError(f"num_bins is {num_bins!r}; expected a whole number of at least 1.")
        self.num_bins = num_bins
        super().__init__(num_classes, from_logits, False, name, dtype)

    def state_shapes(self, columns):
        return {"bins": (3, self.num_bins)}

    def count(self, rows):
        confidence = probabilities(rows, self.from_logits)
        right = tf.cast(rows.labels, tf.float64)
        if not rows.is_binary:
            chosen = tf.argmax(confidence, 1, output_type=tf.int32)
            right = tf.cast(chosen == rows.labels, tf.float64)
            confidence = tf.reduce_max(confidence, 1)
        place = tf.cast(tf.math.ceil(confidence * self.num_bins), tf.int32) - 1
        place = tf.clip_by_value(place, 0, self.num_bins - 1)
        parts = (rows.weights, rows.weights * confidence, rows.weights * right)
        sums = [tf.math.unsorted_segment_sum(part, place, self.num_bins) for part in parts]
        return {"bins": tf.stack(sums)}

    def value(self, bins):
        weights, confidence, right = tf.unstack(bins)
        total = tf.reduce_sum(tf.abs(right - confidence))
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights))

    def curve(self):
        """The reliability diagram: `(confidences, accuracies, weights)`, a value a bin.

        All workers must call it together, as they must read any metric.

        Returns:
            Three float64 arrays `(num_bins,)`; NaN where a bin has no examples.

        Raises:
            ValueError: there were no data yet.
        """
        weights, confidence, right = self.sums()["bins"].numpy()
        if not weights.any():
            raise ValueError(f"{self.name} has seen no data: call update_state or fit first.")
        empty = np.where(weights > 0, weights, np.nan)
        return confidence / empty, right / empty, weights

    def get_config(self):
        config = {**super().get_config(), "num_bins": self.num_bins}
        del config["multi_label"]
        return config
