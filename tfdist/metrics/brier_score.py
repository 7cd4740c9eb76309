"""How far predicted probabilities are from what happened."""

import keras
import tensorflow as tf

from tfdist.metrics.base import SummedMetric


def probabilities(rows, from_logits):
    """Float64 probabilities of `rows`, of the shape of their scores."""
    if not from_logits:
        return tf.cast(rows.scores, tf.float64)
    each = rows.is_binary or rows.is_multi_label
    return tf.cast(tf.sigmoid(rows.scores) if each else tf.nn.softmax(rows.scores), tf.float64)


@keras.saving.register_keras_serializable(package="tfdist")
class BrierScore(SummedMetric):
    """The mean squared difference of predicted probabilities and what happened.

    Of one column `mean (p - y)^2`; of more, the sum of it over the classes. Equal to
    scikit-learn's `brier_score_loss`. With `multi_label` it is the mean over the classes.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.BrierScore()
    >>> metric.update_state([1, 0], [0.9, 0.3])
    >>> round(float(metric.result()), 4)
    0.05

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether labels are multi-hot.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Brier, 1950, "Verification of forecasts expressed in terms of probability".
    """

    def __init__(
        self,
        num_classes=None,
        from_logits=False,
        multi_label=False,
        name="brier_score",
        dtype=None,
    ):
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def state_shapes(self, columns):
        return {"total": (), "weight": ()}

    def count(self, rows):
        predicted = probabilities(rows, self.from_logits)
        if rows.is_binary:
            distance = (predicted - tf.cast(rows.labels, tf.float64)) ** 2
        elif rows.is_multi_label:
            distance = tf.reduce_mean((predicted - tf.cast(rows.labels, tf.float64)) ** 2, 1)
        else:
            # Without rows of zeros and ones: sum p^2 - 2 p_y + 1.
            right = tf.gather(predicted, rows.labels, axis=1, batch_dims=1)
            distance = tf.reduce_sum(predicted**2, 1) - 2.0 * right + 1.0
        total = tf.reduce_sum(rows.weights * distance)
        return {"total": total, "weight": tf.reduce_sum(rows.weights)}

    def value(self, total, weight):
        return tf.math.divide_no_nan(total, weight)
