"""The Matthews correlation coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdist.metrics import counts as counting
from tfdist.metrics.counts import CountedMetric

if TYPE_CHECKING:
    import numpy as np


@keras.saving.register_keras_serializable(package="tfdist")
class MatthewsCorrelation(CountedMetric):
    """The correlation of labels and predictions, from -1 to 1; of any number of classes.

    0 is no better than chance, whatever the classes' shares; also where labels or predictions
    are all of one class, and there is no correlation. Equal to scikit-learn's
    `matthews_corrcoef`.

    Example:

    >>> import tfdist
    >>> correlation = tfdist.metrics.MatthewsCorrelation()
    >>> correlation.update_state([1, 1, 1, 0], [0.9, 0.2, 0.8, 0.7])
    >>> round(float(correlation.result()), 4)
    -0.3333

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float from 0 to 1; see `F1Score`.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64, 24 bytes a class.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Matthews, 1975, "Comparison of the predicted and observed secondary structure of T4 phage
      lysozyme"; of several classes Gorodkin, 2004, "Comparing two K-category assignments by a
      K-category correlation coefficient".
    """

    def __init__(
        self,
        num_classes: int | None = None,
        threshold: float = 0.5,
        from_logits: bool = False,
        name: str = "matthews_correlation",
        dtype: str | None = None,
    ) -> None:
        super().__init__(num_classes, threshold, from_logits, name=name, dtype=dtype)

    def value_of(self, counts: tf.Tensor) -> tf.Tensor:
        correct, predicted, actual = tf.unstack(counts)
        total = tf.reduce_sum(actual)
        # Times the squared total, each is a covariance: of both, and of one with itself.
        covariance = tf.reduce_sum(correct * total - predicted * actual)
        variances = [tf.reduce_sum(one * (tf.reduce_sum(one) - one)) for one in (predicted, actual)]
        return tf.math.divide_no_nan(covariance, tf.sqrt(variances[0]) * tf.sqrt(variances[1]))

    def why_undefined(self, counts: np.ndarray, weight: np.ndarray) -> str | None:
        only = counting.only_class(counts)
        return None if only is None else f"all labels are {only}, so it is not defined, and 0."
