"""Which groups of weights go: so many of the smallest scores."""

from __future__ import annotations

import tensorflow as tf


def all_but(scores, zeros):
    """Bool `(groups,)`: all but the `zeros` smallest; of equal ones the first go."""
    order = tf.argsort(scores, stable=True)
    return tf.cast(tf.math.invert_permutation(order), tf.int64) >= zeros


def all_but_jointly(scores, zeros):
    """The same of all tensors together: a list."""
    sizes = [score.shape[0] for score in scores]
    return tf.split(all_but(tf.concat(scores, 0), zeros), sizes)


def table(weights, structure, allocation, schedule):
    """Steps at which masks change; and how many groups are zero then, of each tensor or in all."""
    shapes = [tuple(weight.variable.shape) for weight in weights]
    groups = [structure.groups(tf.zeros(weight.matrix)).shape[0] for weight in weights]
    zeros = []
    for _, sparsity in schedule.updates():
        if allocation.joint:
            zeros.append([round(sparsity * sum(groups))])
        else:
            each = allocation.sparsities(shapes, sparsity)
            zeros.append([round(part * count) for part, count in zip(each, groups)])
    steps = [step for step, _ in schedule.updates()]
    return tf.constant(steps, tf.int64), zeros
