"""Precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from tfdist.metrics import counts as counting
from tfdist.metrics.averaged import AveragedMetric

if TYPE_CHECKING:
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfdist")
class Precision(AveragedMetric):
    """The part of a class' predictions that are right: true positives / all predicted.

    `keras.metrics.Precision` puts the columns of all classes through one threshold; here the
    class of several is that of the highest score, and there are averages over classes.
    Equal to scikit-learn's `precision_score`.

    Example:

    >>> import tfdist
    >>> precision = tfdist.metrics.Precision()
    >>> precision.update_state([0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9])
    >>> round(float(precision.result()), 4)
    0.6667
    >>> precision.per_class().round(4).tolist()
    [1.0, 0.6667]

    Args: see `F1Score`.

    Raises:
        ValueError: see `F1Score`.
    """

    default_name = "precision"

    def of(self, counts: tf.Tensor) -> tf.Tensor:
        return counting.precision(counts)
