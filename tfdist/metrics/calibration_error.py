"""The expected calibration error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.metrics.base import SummedMetric
from tfdist.metrics.probabilities import probabilities

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows

WEIGHT, CONFIDENCE, ACCURACY = range(3)


@keras.saving.register_keras_serializable(package="tfdist")
class ExpectedCalibrationError(SummedMetric):
    """How far probabilities are from the shares that come true, by bins of probability.

    Of what a model is 80 % sure of, 80 % should be so. Predictions are put in bins by their
    confidence; the result is the mean, over predictions, of how far their bin's accuracy is
    from its mean confidence.

    Confidence and accuracy are, of one column (and of each with `multi_label`), the probability
    of a yes and the share of yes; of several, the highest probability and how often its class
    is the label.

    Example:

    >>> import tfdist
    >>> error = tfdist.metrics.ExpectedCalibrationError(num_bins=2)
    >>> error.update_state([0, 1, 1, 1], [0.2, 0.4, 0.7, 0.9])
    >>> round(float(error.result()), 4)
    0.2
    >>> [one.round(4).tolist() for one in error.curve()]
    [[0.3, 0.8], [0.5, 1.0], [2.0, 2.0]]

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        num_bins: int; how many bins, of equal width; each has its upper end, not its lower.
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether labels are multi-hot. All columns share the bins.
        name: str.
        dtype: unused; the state is float64, 24 bytes a bin.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Guo et al., 2017, "On calibration of modern neural networks".
    """

    def __init__(
        self,
        num_classes: int | None = None,
        num_bins: int = 15,
        from_logits: bool = False,
        multi_label: bool = False,
        name: str = "expected_calibration_error",
        dtype: str | None = None,
    ) -> None:
        self.num_bins = integer("num_bins", num_bins, least=1)
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        return {"bins": (3, self.num_bins)}

    def count(self, rows: Rows) -> dict[str, tf.Tensor]:
        confidence, right, weights = _predictions(rows, self.from_logits)
        begins = tf.constant(np.linspace(0.0, 1.0, self.num_bins + 1)[:-1])
        bins = tf.maximum(tf.searchsorted(begins, confidence, side="left") - 1, 0)
        sums = [
            tf.math.unsorted_segment_sum(weights * one, bins, self.num_bins)
            for one in (tf.ones_like(confidence), confidence, right)
        ]
        return {"bins": tf.stack(sums)}

    def value(self, bins: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        gaps = tf.reduce_sum(tf.abs(bins[CONFIDENCE] - bins[ACCURACY]))
        return tf.math.divide_no_nan(gaps, weight)

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The reliability diagram: a point for each bin with predictions in it.

        All workers must call it together, as they must read any metric.

        Returns:
            `(confidence, accuracy, weight)`, float64 arrays of one length: each bin's mean
            confidence, its accuracy, and the weight of its predictions.

        Raises:
            ValueError: there were no data yet.
        """
        bins = self.some_sums()["bins"].numpy()
        bins = bins[:, bins[WEIGHT] > 0.0]
        weight = bins[WEIGHT]
        return bins[CONFIDENCE] / weight, bins[ACCURACY] / weight, weight

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_bins": self.num_bins}


def _predictions(rows, from_logits):
    """Confidence, whether it was so, and weight of each prediction; float64 `(predictions,)`."""
    guesses = probabilities(rows, from_logits)
    if rows.is_binary:
        return guesses, tf.cast(rows.labels, tf.float64), rows.weights
    if rows.is_multi_label:
        # A row's weight is one, whatever its number of labels.
        weights = tf.broadcast_to(rows.weights[:, tf.newaxis], tf.shape(guesses))
        weights /= guesses.shape[1]
        columns = guesses, tf.cast(rows.labels, tf.float64), weights
        return [tf.reshape(one, (-1,)) for one in columns]
    right = tf.argmax(rows.scores, 1, output_type=tf.int32) == rows.labels
    return tf.reduce_max(guesses, 1), tf.cast(right, tf.float64), rows.weights
