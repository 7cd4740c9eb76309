"""The F1 score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from tfdist.metrics import counts as counting
from tfdist.metrics.averaged import AveragedMetric

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfdist")
class F1Score(AveragedMetric):
    """The harmonic mean of precision and recall.

    `keras.metrics.F1Score` wants one-hot rows, adds 1e-7 below its fractions, and counts a class
    that never occurs as 0 in `"macro"`. Here labels are classes or one-hot rows, counts are
    exact, and `"macro"` is over the classes that labels or predictions have, unless
    `multi_label` is True. Equal to scikit-learn's `f1_score`; examples of weight 0 are left out.

    Example:

    >>> import tfdist
    >>> f1 = tfdist.metrics.F1Score()
    >>> f1.update_state([0, 2, 1, 2], [[0.9, 0.1, 0], [0.6, 0, 0.4], [0.2, 0.8, 0], [0, 0, 1]])
    >>> round(float(f1.result()), 4)
    0.7778
    >>> f1.per_class().round(4).tolist()
    [0.6667, 1.0, 0.6667]

    In `model.compile(..., metrics=[tfdist.metrics.F1Score(average="weighted")])` it is that of
    all examples of the epoch, on any number of replicas. A mask of the model is applied;
    `weighted_metrics=[...]` applies `sample_weight`, too.

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        average: `"binary"`: that of class 1 of two; `"macro"`: the mean over classes;
            `"weighted"`: weighted by how much of the labels a class has; `"micro"`: of all
            classes' counts together. None: `"binary"` of two classes (one column of scores or
            two), else `"macro"`.
        class_id: int; makes the result that of this class, instead of an average.
        threshold: float from 0 to 1; one column of scores, or each with `multi_label`, means
            yes where the probability is at least that. Of two columns or more the highest counts.
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether labels are multi-hot, and each column a question of its own.
        name: str.
        dtype: unused; the state is float64, 24 bytes a class.

    Raises:
        ValueError: arguments or shapes that do not fit each other; when the result is read:
            labels out of range, scores outside of 0 to 1 without `from_logits`.

    Reference:

    - van Rijsbergen, 1979, "Information Retrieval", chapter 7.
    """

    default_name = "f1_score"

    def of(self, counts: tf.Tensor) -> tf.Tensor:
        return counting.f1_score(counts)

    def why_undefined(self, counts: np.ndarray, weight: np.ndarray) -> str | None:
        one = self._without_examples(counts)
        return None if one is None else f"class {one} has no examples, so its F1 score is 0."
