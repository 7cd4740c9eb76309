"""Probabilities, of scores of any kind."""

import tensorflow as tf


def probabilities(rows, from_logits):
    """Float64 probabilities of the scores of `rows`, of their shape."""
    scores = tf.cast(rows.scores, tf.float64)
    if not from_logits:
        return scores
    if rows.is_binary or rows.is_multi_label:
        return tf.sigmoid(scores)
    return tf.nn.softmax(scores)
