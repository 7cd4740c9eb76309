"""Three counts a class, from which precision, recall, F1 and similar ratios are computed.

They are the weights of a class' true positives, of all that was predicted to be of it, and of
all that is. Examples are counted by their class' number, without one-hot rows, so that a
vocabulary costs a pass over its scores and no more.

Where a ratio's denominator is 0 it is 0, as in scikit-learn. There is a warning, once
a metric, where the labels are the reason; that a class is not predicted yet is usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from tfdist.metrics.decisions import DecidedMetric

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows

# The order of the counts.
TRUE_POSITIVES, PREDICTED, ACTUAL = range(3)


def by_class(labels, predicted, weights, classes):
    """Counts float64 `(3, classes)` of int32 `labels` and `predicted`, each `(rows,)`."""
    hits = tf.where(labels == predicted, weights, 0.0)
    places = tf.concat([labels, predicted + classes, labels + 2 * classes], 0)
    weights = tf.concat([hits, weights, weights], 0)
    return tf.reshape(tf.math.unsorted_segment_sum(weights, places, 3 * classes), (3, classes))


def by_label(labels, predicted, weights):
    """Counts float64 `(3, classes)` of zeros and ones: both are int32 `(rows, classes)`."""
    counted = [labels * predicted, predicted, labels]
    return tf.stack(
        [tf.linalg.matvec(tf.cast(one, tf.float64), weights, transpose_a=True) for one in counted]
    )


def precision(counts):
    """Of what was predicted to be of a class, the part that is; `(3, ...)` to `(...)`."""
    return tf.math.divide_no_nan(counts[TRUE_POSITIVES], counts[PREDICTED])


def recall(counts):
    """Of what is of a class, the part that was predicted to be; `(3, ...)` to `(...)`."""
    return tf.math.divide_no_nan(counts[TRUE_POSITIVES], counts[ACTUAL])


def f1_score(counts):
    """The harmonic mean of precision and recall; `(3, ...)` to `(...)`."""
    return tf.math.divide_no_nan(2.0 * counts[TRUE_POSITIVES], counts[PREDICTED] + counts[ACTUAL])


def mean(of, counts, average, of_all=False):
    """The average of `of(counts)` over the classes; 0 where there is none.

    Args:
        of: `precision`, `recall` or `f1_score`.
        counts: float64 `(3, classes)`.
        average: `"micro"`, `"macro"` or `"weighted"`.
        of_all: bool; whether `"macro"` counts classes that no label and no prediction has.
    """
    if average == "micro":
        return of(tf.reduce_sum(counts, 1))
    share = counts[ACTUAL]
    if average == "macro":
        occurs = (counts[PREDICTED] + counts[ACTUAL] > 0.0) | of_all
        share = tf.cast(occurs, tf.float64)
    return tf.math.divide_no_nan(tf.reduce_sum(share * of(counts)), tf.reduce_sum(share))


class CountedMetric(DecidedMetric):
    """A metric whose state is three counts a class."""

    def value_of(self, counts: tf.Tensor) -> tf.Tensor:
        """The result, from counts `(3, classes)`."""
        raise NotImplementedError

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        return {"counts": (3, self.classes(columns))}

    def count(self, rows: Rows) -> dict[str, tf.Tensor]:
        labels, predicted = rows.labels, self.decided(rows)
        if self.multi_label:
            shape = (-1, self._columns)
            labels, predicted = tf.reshape(labels, shape), tf.reshape(predicted, shape)
            return {"counts": by_label(labels, predicted, rows.weights)}
        classes = self.classes(self._columns)
        return {"counts": by_class(labels, predicted, rows.weights, classes)}

    def value(self, counts: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return self.value_of(counts)


def only_class(counts):
    """The class that all labels are of; None if there are several. For NumPy arrays."""
    (seen,) = counts[ACTUAL].nonzero()
    return int(seen[0]) if len(seen) == 1 else None
