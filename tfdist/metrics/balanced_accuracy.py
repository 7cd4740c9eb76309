"""Accuracy in which each class counts the same."""

import keras
import tensorflow as tf

from tfdist.metrics import averaged


@keras.saving.register_keras_serializable(package="tfdist")
class BalancedAccuracy(averaged.CountingMetric):
    """The mean of the recalls of all classes that have examples.

    Equal to scikit-learn's `balanced_accuracy_score`.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.BalancedAccuracy()
    >>> metric.update_state([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])
    >>> float(metric.result())
    0.5

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float; from which probability on class 1 is predicted, for scores of one column.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Brodersen et al., 2010, "The balanced accuracy and its posterior distribution".
    """

    def __init__(
        self,
        num_classes=None,
        threshold=0.5,
        from_logits=False,
        name="balanced_accuracy",
        dtype=None,
    ):
        super().__init__(num_classes, threshold, from_logits, False, name, dtype)

    def value(self, counts):
        true, _, actual = tf.unstack(counts)
        there = tf.cast(actual > 0.0, tf.float64)
        recalls = tf.math.divide_no_nan(true, actual)
        return tf.math.divide_no_nan(tf.reduce_sum(recalls), tf.reduce_sum(there))

    def get_config(self):
        config = super().get_config()
        del config["multi_label"]
        return config
