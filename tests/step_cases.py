"""Splits of a batch over replicas, and the gradients that the tail of the step gets for them."""

import numpy as np
import pytest
import tensorflow as tf

from tfdist.sync.step import KerasStep

SPLITS = {
    "equal": (4, 4),
    "unequal": (3, 1),
    "one is empty": (5, 0),
    "all but one are empty": (0, 2, 0),
    "four": (3, 3, 2, 2),
}
splits = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
known = pytest.mark.parametrize("known", [True, False], ids=["B known", "B unknown"])

rng = np.random.default_rng(5)
# What each example contributes to the gradient of (2, 3) weights, to a scalar, ...
EXAMPLES = rng.normal(size=(10, 2, 3)) * np.linspace(0.1, 5, 10)[:, None, None]


def keras_step(communicator, split, known=True, variables=()):
    replica = communicator.replica
    return KerasStep(
        communicator,
        tf.constant(replica),
        tf.constant(split[replica], tf.int64),
        tf.constant(sum(split), tf.int64) if known else None,
        variables,
    )


def local(split, replica, empty=np.nan):
    """The replica's own mean over its examples; `empty` where it has none."""
    rows = np.split(EXAMPLES[: sum(split)], np.cumsum(split)[:-1])[replica]
    return rows.mean(axis=0) if len(rows) else np.full(EXAMPLES.shape[1:], empty)


def mean(split):
    return EXAMPLES[: sum(split)].mean(axis=0)
