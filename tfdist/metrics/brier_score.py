"""The Brier score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from tfdist.metrics.base import SummedMetric
from tfdist.metrics.probabilities import probabilities

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows


@keras.saving.register_keras_serializable(package="tfdist")
class BrierScore(SummedMetric):
    """The mean square of how far probabilities are from what happened; 0 is best.

    Of one column, `(p - y)**2`; of several, the sum of that over the classes, from 0 to 2, and of
    two half of it, so that one column and two say the same. Equal to scikit-learn's
    `brier_score_loss`. With `multi_label`, the mean over labels of each one's score.

    Example:

    >>> import tfdist
    >>> score = tfdist.metrics.BrierScore()
    >>> score.update_state([0, 1, 1, 0], [0.1, 0.9, 0.8, 0.3])
    >>> round(float(score.result()), 6)
    0.0375

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether labels are multi-hot, and each column a question of its own.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.

    Reference:

    - Brier, 1950, "Verification of forecasts expressed in terms of probability".
    """

    def __init__(
        self,
        num_classes: int | None = None,
        from_logits: bool = False,
        multi_label: bool = False,
        name: str = "brier_score",
        dtype: str | None = None,
    ) -> None:
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        return {"squares": ()}

    def count(self, rows: Rows) -> dict[str, tf.Tensor]:
        squares = _squares(probabilities(rows, self.from_logits), rows)
        return {"squares": tf.reduce_sum(rows.weights * squares)}

    def value(self, squares: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(squares, weight)


def _squares(guesses, rows):
    """The score of each row, `(rows,)`."""
    if rows.is_binary or rows.is_multi_label:
        squares = tf.square(guesses - tf.cast(rows.labels, tf.float64))
        return squares if rows.is_binary else tf.reduce_mean(squares, 1)
    right = tf.gather(guesses, rows.labels, batch_dims=1)
    squares = tf.reduce_sum(tf.square(guesses), 1) - tf.square(right) + tf.square(1.0 - right)
    return squares / 2.0 if guesses.shape[1] == 2 else squares
