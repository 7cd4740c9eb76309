"""Balanced accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdist.metrics import counts as counting
from tfdist.metrics.counts import CountedMetric

if TYPE_CHECKING:
    import numpy as np


@keras.saving.register_keras_serializable(package="tfdist")
class BalancedAccuracy(CountedMetric):
    """The mean recall of the classes that have examples.

    A model that always says the most frequent class has an accuracy of that class' share, and a
    balanced accuracy of one over the number of classes. Equal to scikit-learn's
    `balanced_accuracy_score`.

    Example:

    >>> import tfdist
    >>> accuracy = tfdist.metrics.BalancedAccuracy()
    >>> accuracy.update_state([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    >>> float(accuracy.result())
    0.5

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float from 0 to 1; see `F1Score`.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64, 24 bytes a class.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Brodersen et al., 2010, "The balanced accuracy and its posterior distribution".
    """

    def __init__(
        self,
        num_classes: int | None = None,
        threshold: float = 0.5,
        from_logits: bool = False,
        name: str = "balanced_accuracy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(num_classes, threshold, from_logits, name=name, dtype=dtype)

    def value_of(self, counts: tf.Tensor) -> tf.Tensor:
        seen = tf.cast(counts[counting.ACTUAL] > 0.0, tf.float64)
        total = tf.reduce_sum(seen * counting.recall(counts))
        return tf.math.divide_no_nan(total, tf.reduce_sum(seen))

    def why_undefined(self, counts: np.ndarray, weight: np.ndarray) -> str | None:
        only = counting.only_class(counts)
        return None if only is None else f"all labels are {only}, so it is the recall of {only}."
