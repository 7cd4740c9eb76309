"""Precision, recall and their kin, from three counts a class, and how classes are averaged."""

import tensorflow as tf

from tfdist.metrics.base import SummedMetric

AVERAGES = ("binary", "macro", "micro", "weighted")


def precision(true, predicted, actual):
    """`true / predicted`; 0 where nothing was predicted."""
    return tf.math.divide_no_nan(true, predicted)


def recall(true, predicted, actual):
    """`true / actual`; 0 where there is nothing to find."""
    return tf.math.divide_no_nan(true, actual)


def f1(true, predicted, actual):
    """The harmonic mean of precision and recall; 0 where there is nothing at all."""
    return tf.math.divide_no_nan(2.0 * true, predicted + actual)


def average(ratio, counts, how, absent_count=False):
    """The average over classes of a ratio.

    Args:
        ratio: one of the functions above.
        counts: float64 `(3, classes)`: true positives, predicted, actual.
        how: `"macro"`, `"weighted"` (by `actual`) or `"micro"` (of the sums).
        absent_count: whether classes that were neither predicted nor actual count in the
            macro average, as 0.
    """
    if how == "micro":
        return ratio(*tf.unstack(tf.reduce_sum(counts, 1)))
    values = ratio(*tf.unstack(counts))
    if how == "weighted":
        weights = counts[2]
    elif absent_count:
        weights = tf.ones_like(values)
    else:
        weights = tf.cast(counts[1] + counts[2] > 0.0, tf.float64)
    return tf.math.divide_no_nan(tf.reduce_sum(weights * values), tf.reduce_sum(weights))


def predictions(rows, threshold, from_logits):
    """The predicted class of each of `rows`; of multi-label rows 0 or 1 for each class."""
    if not (rows.is_binary or rows.is_multi_label):
        return tf.argmax(rows.scores, 1, output_type=tf.int32)
    scores = tf.sigmoid(rows.scores) if from_logits else rows.scores
    return tf.cast(scores >= threshold, tf.int32)


def check_threshold(threshold, from_logits):
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(
            f"threshold is {threshold!r}; expected a probability, from 0 to 1"
            + (" (also with from_logits=True)." if from_logits else ".")
        )


class CountingMetric(SummedMetric):
    """A metric of true positives, predicted and actual weight, by class.

    Args:
        threshold: float; from which score on a label is predicted, where each is a question
            of its own (one column, or `multi_label`). Otherwise the highest score counts.
    """

    def __init__(self, num_classes, threshold, from_logits, multi_label, name, dtype):
        check_threshold(threshold, from_logits)
        self.threshold = float(threshold)
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def state_shapes(self, columns):
        return {"counts": (3, 2 if columns == 1 else columns)}

    def count(self, rows):
        predicted = predictions(rows, self.threshold, self.from_logits)
        if rows.is_multi_label:
            weights = rows.weights[:, tf.newaxis]
            parts = (predicted * rows.labels, predicted, rows.labels)
            sums = [tf.reduce_sum(weights * tf.cast(part, tf.float64), 0) for part in parts]
            return {"counts": tf.stack(sums)}
        classes = 2 if rows.is_binary else rows.scores.shape[-1]
        right = tf.where(predicted == rows.labels, rows.weights, 0.0)
        parts = ((right, rows.labels), (rows.weights, predicted), (rows.weights, rows.labels))
        # Not rows of zeros and ones: a vocabulary has many classes.
        sums = [tf.math.unsorted_segment_sum(what, of, classes) for what, of in parts]
        return {"counts": tf.stack(sums)}

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


class AveragedMetric(CountingMetric):
    """A ratio of the counts, averaged over classes.

    Args: see `F1Score`.
    """

    ratio = None

    def __init__(
        self,
        num_classes=None,
        average=None,
        class_id=None,
        threshold=0.5,
        from_logits=False,
        multi_label=False,
        name=None,
        dtype=None,
    ):
        if average not in (None, *AVERAGES):
            raise ValueError(
                f"average is {average!r}; expected one of {', '.join(AVERAGES)}, or None. "
                "For the values of all classes: per_class()."
            )
        if class_id is not None and average is not None:
            raise ValueError(
                f"average is {average!r} and class_id {class_id}: a single class has no average. "
                "Leave one out."
            )
        if average == "binary" and (multi_label or num_classes not in (None, 1, 2)):
            raise ValueError(
                "average is 'binary', but there are more than two classes: expected one of macro, "
                "micro, weighted, or a class_id."
            )
        self.average = average
        self.class_id = class_id
        super().__init__(num_classes, threshold, from_logits, multi_label, name, dtype)

    def state_shapes(self, columns):
        shapes = super().state_shapes(columns)
        classes = shapes["counts"][1]
        if self.average == "binary" and classes != 2:
            raise ValueError(
                f"{self.name}: average is 'binary', but the scores have {columns} columns: "
                "expected one of macro, micro, weighted, or a class_id."
            )
        if self.class_id is not None and not 0 <= self.class_id < classes:
            raise ValueError(f"class_id is {self.class_id}; expected 0 to {classes - 1}.")
        return shapes

    def value(self, counts):
        one = self.class_id
        binary = self.average == "binary" or (self.average is None and self._columns == 1)
        if one is None and binary:
            one = 1
        if one is not None:
            return type(self).ratio(*tf.unstack(counts[:, one]))
        return average(type(self).ratio, counts, self.average or "macro", self.multi_label)

    def per_class(self):
        """The value of each class, a float64 array `(classes,)`; two classes for one column.

        Raises:
            ValueError: there were no data yet.
        """
        return type(self).ratio(*tf.unstack(self.sums()["counts"])).numpy()

    def get_config(self):
        return {**super().get_config(), "average": self.average, "class_id": self.class_id}
