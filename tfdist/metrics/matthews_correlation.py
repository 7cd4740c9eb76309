"""The correlation of labels and predictions."""

import keras
import tensorflow as tf

from tfdist.metrics import averaged


@keras.saving.register_keras_serializable(package="tfdist")
class MatthewsCorrelation(averaged.CountingMetric):
    """The Matthews correlation coefficient; of more than two classes Gorodkin's R_K.

    With s the weight of all examples, c of those predicted right, p_k predicted as class k
    and t_k of class k:

        (c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2))

    Equal to scikit-learn's `matthews_corrcoef`; 0 where all examples have, or are given, one
    class.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.MatthewsCorrelation()
    >>> metric.update_state([1, 1, 1, 0], [0.9, 0.2, 0.8, 0.7])
    >>> round(float(metric.result()), 4)
    -0.3333

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float; from which probability on class 1 is predicted, for scores of one column.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Matthews, 1975, "Comparison of the predicted and observed secondary structure of T4
      phage lysozyme".
    - Gorodkin, 2004, "Comparing two K-category assignments by a K-category correlation
      coefficient".
    """

    def __init__(
        self,
        num_classes=None,
        threshold=0.5,
        from_logits=False,
        name="matthews_correlation",
        dtype=None,
    ):
        super().__init__(num_classes, threshold, from_logits, False, name, dtype)

    def value(self, counts):
        # Shares, so that squares stay small.
        true, predicted, actual = tf.unstack(
            tf.math.divide_no_nan(counts, tf.reduce_sum(counts[2]))
        )
        covariance = tf.reduce_sum(true) - tf.reduce_sum(predicted * actual)
        spread = (1.0 - tf.reduce_sum(predicted**2)) * (1.0 - tf.reduce_sum(actual**2))
        # One class only: but for rounding there is no spread.
        known = (tf.reduce_max(predicted) < 1.0 - 1e-12) & (tf.reduce_max(actual) < 1.0 - 1e-12)
        ratio = tf.math.divide_no_nan(covariance, tf.sqrt(tf.maximum(spread, 0.0)))
        return tf.where(known, ratio, 0.0)

    def get_config(self):
        config = super().get_config()
        del config["multi_label"]
        return config
