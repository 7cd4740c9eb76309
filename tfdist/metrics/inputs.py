"""What a metric is given, brought to one form: examples in rows, one weight each.

A batch may be empty: a replica without examples updates its metrics, too. What is bad in
it is counted, not raised, since most batches are seen in a graph; such rows weigh nothing.
"""

import dataclasses

import tensorflow as tf

from tfdist.compat.masks import mask_of

# What is counted apart, in the order of `Rows.invalid`.
NAN_SCORES, BAD_LABELS, BAD_PROBABILITIES, BAD_WEIGHTS = range(4)
KINDS = 4


@dataclasses.dataclass
class Rows:
    """A batch.

    Attributes:
        labels: int32; `(rows,)`: 0 or 1 of binary rows, the class otherwise; of multi-label
            rows `(rows, classes)`.
        scores: float32; `(rows,)` of binary rows, `(rows, classes)` otherwise.
        weights: float64 `(rows,)`.
        rounded: float64 `()`: how many scores were not float32 numbers.
        invalid: float64 `(KINDS,)`: how many rows were bad, by kind.
    """

    labels: tf.Tensor
    scores: tf.Tensor
    weights: tf.Tensor
    rounded: tf.Tensor
    invalid: tf.Tensor

    @property
    def is_binary(self) -> bool:
        return self.scores.shape.rank == 1

    @property
    def is_multi_label(self) -> bool:
        return self.labels.shape.rank == 2


def rows(y_true, y_pred, sample_weight=None, *, multi_label=False, from_logits=False):
    """Returns the `Rows` of a batch.

    Args:
        y_true: classes of shape `y_pred.shape[:-1]` (or with a last dimension of 1), or one-hot
            or, where `multi_label` is True, multi-hot rows of the shape of `y_pred`.
        y_pred: scores `(..., classes)`; of two classes also `(..., 1)` or `(examples,)`. What
            a model's mask leaves out has no weight.
        sample_weight: None or of the shape of `y_pred` without its classes, or of its first
            dimensions.

    Raises:
        ValueError: the shapes do not fit each other.
    """
    mask = mask_of(y_pred)
    y_true, given_scores = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    y_pred = tf.cast(given_scores, tf.float32)
    if y_pred.shape.rank is None or y_pred.shape.rank == 0:
        raise ValueError(
            f"y_pred has shape {y_pred.shape}; scores of shape (..., classes) belong there."
        )
    if y_pred.shape.rank == 1:
        y_pred = y_pred[:, tf.newaxis]
        if y_true.shape.rank == 1:
            y_true = y_true[:, tf.newaxis]
    classes = y_pred.shape[-1]
    if classes is None:
        raise ValueError(
            f"y_pred has shape {y_pred.shape}: the number of classes must be known. "
            "Give the model's last layer a fixed width."
        )
    binary = classes == 1
    whole = y_true.shape.rank == y_pred.shape.rank and y_true.shape[-1] == classes
    if not whole and y_true.shape.rank == y_pred.shape.rank and y_true.shape[-1] == 1:
        y_true = tf.squeeze(y_true, -1)
    if not _fits(y_true, y_pred, whole) or (multi_label and not whole):
        wanted = (
            [] if multi_label else [f"{y_pred.shape[:-1]} with classes from 0 to {classes - 1}"]
        )
        wanted += [f"{y_pred.shape} with zeros and ones"]
        raise ValueError(
            f"y_true has shape {y_true.shape} and y_pred {y_pred.shape}. "
            f"y_true must have shape {' or '.join(wanted)}."
        )
    weights = _weights(sample_weight, y_pred)
    if mask is not None:
        weights = tf.where(_weights(mask, y_pred) > 0.0, weights, 0.0)
    scores = tf.reshape(y_pred, (-1,) if binary else (-1, classes))
    given = tf.reshape(y_true, (-1, classes) if whole and not binary else (-1,))
    labels, good = _labels(given, classes, multi_label)
    columns = scores[:, tf.newaxis] if binary else scores
    finite = ~tf.reduce_any(tf.math.is_nan(columns), 1)
    inside = tf.ones_like(finite)
    if not from_logits:
        inside = tf.reduce_all((columns >= 0.0) & (columns <= 1.0), 1) | ~finite
    positive = weights >= 0.0
    counted = [
        finite | (weights == 0.0),
        good | (weights == 0.0),
        inside | (weights == 0.0),
        positive,
    ]
    invalid = [tf.reduce_sum(tf.cast(~one, tf.float64)) for one in counted]
    usable = finite & good & inside & positive
    return Rows(
        labels,
        tf.where(usable if binary else usable[:, tf.newaxis], scores, 0.0),
        tf.where(usable, weights, 0.0),
        _count_rounded(given_scores, y_pred),
        tf.stack(invalid),
    )


def _count_rounded(given, rounded):
    if given.dtype in (tf.float32, tf.bfloat16, tf.float16):
        return tf.zeros((), tf.float64)
    return tf.reduce_sum(tf.cast(tf.cast(rounded, given.dtype) != given, tf.float64))


def _fits(y_true, y_pred, whole):
    wanted = y_pred.shape if whole else y_pred.shape[:-1]
    return y_true.shape.rank is not None and y_true.shape.is_compatible_with(wanted)


def _labels(given, classes, multi_label):
    """Returns the labels, and which rows of them are labels at all."""
    if given.shape.rank == 1:
        count = 2 if classes == 1 else classes
        labels = tf.cast(given, tf.int32)
        whole = tf.cast(labels, given.dtype) == given
        good = whole & (labels >= 0) & (labels < count)
        return tf.where(good, labels, 0), good
    is_one, is_zero = given == tf.ones((), given.dtype), given == tf.zeros((), given.dtype)
    good = tf.reduce_all(is_one | is_zero, 1)
    ones = tf.cast(is_one, tf.int32)
    if multi_label:
        return ones, good
    good &= tf.reduce_sum(ones, 1) == 1
    return tf.argmax(ones, 1, output_type=tf.int32), good


def _weights(sample_weight, y_pred):
    """One float64 weight a row."""
    leading = tf.shape(y_pred)[:-1]
    if sample_weight is None:
        return tf.ones((tf.reduce_prod(leading),), tf.float64)
    weights = tf.cast(sample_weight, tf.float64)
    rank = y_pred.shape.rank - 1
    if weights.shape.rank == rank + 1 and weights.shape[-1] == 1:
        weights = tf.squeeze(weights, -1)
    if weights.shape.rank is None or weights.shape.rank > rank:
        raise ValueError(
            f"sample_weight has shape {weights.shape} and y_pred {y_pred.shape}. sample_weight "
            f"must have shape {y_pred.shape[:-1]}, or fewer dimensions of these from the left."
        )
    for mine, theirs in zip(weights.shape, y_pred.shape):
        if None not in (mine, theirs) and mine not in (1, theirs):
            raise ValueError(
                f"sample_weight has shape {weights.shape} and y_pred {y_pred.shape}: their first "
                "dimensions must be equal."
            )
    missing = rank - weights.shape.rank
    weights = tf.reshape(weights, tf.concat([tf.shape(weights), [1] * missing], 0))
    return tf.reshape(tf.broadcast_to(weights, leading), (-1,))
