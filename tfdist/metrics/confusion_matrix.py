"""The confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.metrics.decisions import DecidedMetric

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows

NORMALIZATIONS = {"true": 1, "pred": 0, "all": (0, 1)}  # -> the axes of each one's sums


@keras.saving.register_keras_serializable(package="tfdist")
class ConfusionMatrix(DecidedMetric):
    """How often each class was taken for each.

    A row is a true class and a column a predicted one, as in scikit-learn's `confusion_matrix`.
    Logs hold numbers, not arrays: the result is the matrix' diagonal over its sum, the
    accuracy, and `matrix()` returns the matrix.

    Example:

    >>> import tfdist
    >>> confusion = tfdist.metrics.ConfusionMatrix()
    >>> confusion.update_state([0, 0, 1, 1], [0.1, 0.7, 0.8, 0.9])
    >>> confusion.matrix()
    array([[1., 1.],
           [0., 2.]])
    >>> float(confusion.result())
    0.75

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float from 0 to 1; see `F1Score`.
        normalize: what `matrix()` sums up to 1: `"true"`: each row; `"pred"`: each column;
            `"all"`: the whole; None: nothing, they are the examples' weights.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64, 8 bytes for each pair of classes.

    Raises:
        ValueError: see `F1Score`.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        threshold: float = 0.5,
        normalize: str | None = None,
        from_logits: bool = False,
        name: str = "confusion_matrix",
        dtype: str | None = None,
    ) -> None:
        if normalize not in (None, *NORMALIZATIONS):
            raise ValueError(
                f"normalize is {normalize!r}; expected None, {', '.join(NORMALIZATIONS)}."
            )
        self.normalize = normalize
        super().__init__(num_classes, threshold, from_logits, name=name, dtype=dtype)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        classes = self.classes(columns)
        return {"matrix": (classes, classes)}

    def count(self, rows: Rows) -> dict[str, tf.Tensor]:
        classes = self.classes(self._columns)
        places = rows.labels * classes + self.decided(rows)
        sums = tf.math.unsorted_segment_sum(rows.weights, places, classes**2)
        return {"matrix": tf.reshape(sums, (classes, classes))}

    def value(self, matrix: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(tf.linalg.trace(matrix), weight)

    def matrix(self) -> np.ndarray:
        """The matrix, a float64 array `(classes, classes)`: true classes, predicted ones.

        All workers must call it together, as they must read any metric.

        Raises:
            ValueError: there were no data yet.
        """
        matrix = self.some_sums()["matrix"].numpy()
        if self.normalize is None:
            return matrix
        sums = matrix.sum(NORMALIZATIONS[self.normalize], keepdims=True)
        return np.divide(matrix, sums, out=np.zeros_like(matrix), where=sums > 0.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "normalize": self.normalize}
