"""The areas under ROC and PR curves from the weights in bins of scores, and how wrong they can be.

Each function takes `negatives` and `positives`, float64 tensors of shape `(..., bins)`, from
the lowest scores to the highest. Between bins the order of examples is known; within one it
is not, so the true area lies between those of the worst and of the best order. `tied` says
in which bins all scores are equal.
"""

import tensorflow as tf

# What float64 sums of some 10**5 terms can be wrong by.
_ROUNDING = 1e-11


def roc_area(negatives, positives):
    """The area under the ROC curve: the part of pairs of a positive and a negative in order.

    Pairs in one bin count half, as ties do.

    Returns:
        The area, of shape `(...)`; NaN where one class has no weight.
    """
    below = tf.cumsum(negatives, axis=-1, exclusive=True)
    pairs = tf.reduce_sum(negatives, -1) * tf.reduce_sum(positives, -1)
    return tf.reduce_sum(positives * (below + 0.5 * negatives), -1) / pairs


def roc_bound(negatives, positives, tied):
    """How far `roc_area` can be from the area of the scores themselves.

    Half of the pairs in bins whose scores may differ.
    """
    pairs = tf.reduce_sum(negatives, -1) * tf.reduce_sum(positives, -1)
    unknown = tf.where(tied, 0.0, positives * negatives)
    return 0.5 * tf.reduce_sum(unknown, -1) / pairs + _ROUNDING


def pr_area(negatives, positives):
    """The average precision: the sum of recall's steps, each times the precision there.

    An example of a bin counts as tied with all others of it.

    Returns:
        The area, of shape `(...)`; 0 where no positive has weight.
    """
    all_positives = tf.reduce_sum(positives, -1, keepdims=True)
    true = tf.cumsum(positives, axis=-1, reverse=True)
    predicted = true + tf.cumsum(negatives, axis=-1, reverse=True)
    steps = tf.math.divide_no_nan(positives, all_positives)
    return tf.reduce_sum(steps * tf.math.divide_no_nan(true, predicted), -1)


def pr_bound(negatives, positives, tied, weighted):
    """How far `pr_area` can be from the average precision of the scores themselves.

    With TP positives and FP negatives in the bins above, p and n in a bin:

    - best order: all p tied in front of the n: `p (TP + p) / (TP + FP + p)`;
    - worst: the n, then the p one by one: the sum of `(TP + i) / (TP + FP + n + i)` for i from
      1 to p. With weights, however small they are: the integral of it from 0 to p.

    Args:
        weighted: bool `()`; whether any weight was not 1.
    """
    all_positives = tf.reduce_sum(positives, -1, keepdims=True)
    true = tf.cumsum(positives, axis=-1, reverse=True, exclusive=True)
    false = tf.cumsum(negatives, axis=-1, reverse=True, exclusive=True)
    start = true + false + negatives
    equal = positives * _ratio(true + positives, start + positives)
    best = positives * _ratio(true + positives, true + false + positives)
    grown = tf.where(start > 0.0, tf.math.log1p(_ratio(positives, start)), 0.0)
    integral = positives - (start - true) * grown
    digamma = tf.math.digamma
    harmonic = digamma(start + positives + 1.0) - digamma(start + 1.0)
    one_by_one = positives - (start - true) * harmonic
    worst = tf.where(weighted, integral, one_by_one)
    parts = (tf.where(tied, 0.0, part) / all_positives for part in (best - equal, equal - worst))
    above, below = (tf.reduce_sum(part, -1) for part in parts)
    bound = tf.maximum(above, below) + _ROUNDING
    return tf.where(all_positives[..., 0] > 0.0, bound, 0.0)


def _ratio(a, b):
    return tf.math.divide_no_nan(a, b)
