"""How often each class was taken for each other."""

import keras
import numpy as np
import tensorflow as tf

from tfdist.metrics import averaged
from tfdist.metrics.base import SummedMetric


@keras.saving.register_keras_serializable(package="tfdist")
class ConfusionMatrix(SummedMetric):
    """The confusion matrix of all examples: a row a true class, a column a predicted one.

    In the logs it is one number, the accuracy (the share of the diagonal); `matrix()` returns
    the matrix, equal to scikit-learn's `confusion_matrix`. Its state has classes x classes
    numbers.

    Example:

    >>> import tfdist
    >>> metric = tfdist.metrics.ConfusionMatrix()
    >>> metric.update_state([0, 0, 1, 1], [0.1, 0.6, 0.7, 0.9])
    >>> metric.matrix()
    array([[1., 1.],
           [0., 2.]])
    >>> float(metric.result())
    0.75

    Args:
        num_classes: int; how many columns the scores have. None: those of the first batch.
        threshold: float; from which probability on class 1 is predicted, for scores of one column.
        from_logits: bool; whether scores are logits.
        name: str.
        dtype: unused; the state is float64.

    Raises:
        ValueError: see `F1Score`.
    """

    def __init__(
        self,
        num_classes=None,
        threshold=0.5,
        from_logits=False,
        name="confusion_matrix",
        dtype=None,
    ):
        averaged.check_threshold(threshold, from_logits)
        self.threshold = float(threshold)
        super().__init__(num_classes, from_logits, False, name, dtype)

    def state_shapes(self, columns):
        classes = 2 if columns == 1 else columns
        return {"matrix": (classes, classes)}

    def count(self, rows):
        predicted = averaged.predictions(rows, self.threshold, self.from_logits)
        classes = 2 if rows.is_binary else rows.scores.shape[-1]
        places = rows.labels * classes + predicted
        sums = tf.math.unsorted_segment_sum(rows.weights, places, classes * classes)
        return {"matrix": tf.reshape(sums, (classes, classes))}

    def value(self, matrix):
        return tf.math.divide_no_nan(tf.linalg.trace(matrix), tf.reduce_sum(matrix))

    def matrix(self, normalize=None):
        """The matrix, a float64 array `(classes, classes)`.

        All workers must call it together, as they must read any metric.

        Args:
            normalize: None: weights of examples; `"true"`: shares of each row, `"pred"`: of each
                column, `"all"`: of all. What has no examples is 0.

        Raises:
            ValueError: there were no data yet.
        """
        axes = {"true": 1, "pred": 0, "all": (0, 1)}
        if normalize is not None and normalize not in axes:
            raise ValueError(f"normalize is {normalize!r}; expected None, 'true', 'pred' or 'all'.")
        matrix = self.sums()["matrix"].numpy()
        if normalize is None:
            return matrix
        totals = matrix.sum(axes[normalize], keepdims=True)
        return np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)

    def get_config(self):
        config = {**super().get_config(), "threshold": self.threshold}
        del config["multi_label"]
        return config
