"""Recall."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from tfdist.metrics import counts as counting
from tfdist.metrics.averaged import AveragedMetric

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfdist")
class Recall(AveragedMetric):
    """The part of a class' examples that are predicted (sensitivity): true positives / all.

    `keras.metrics.Recall` puts the columns of all classes through one threshold; here the
    class of several is that of the highest score, and there are averages over classes.
    Equal to scikit-learn's `recall_score`. Of class 0 of two it is the specificity.

    Example:

    >>> import tfdist
    >>> recall = tfdist.metrics.Recall(average="macro")
    >>> recall.update_state([0, 0, 1, 2], [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0, 1, 0], [0, 0, 1]])
    >>> round(float(recall.result()), 4)
    0.8333
    >>> recall.per_class().tolist()
    [0.5, 1.0, 1.0]

    Args: see `F1Score`.

    Raises:
        ValueError: see `F1Score`.
    """

    default_name = "recall"

    def of(self, counts: tf.Tensor) -> tf.Tensor:
        return counting.recall(counts)

    def why_undefined(self, counts: np.ndarray, weight: np.ndarray) -> str | None:
        one = self._without_examples(counts)
        return None if one is None else f"class {one} has no examples, so its recall is 0."
