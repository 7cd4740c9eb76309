"""How a pipeline is read: without tf.data's autotuner, where the user has not asked for it.

The autotuner of an iterator sleeps for as long as it has run already, up to a minute, and the
iterator's end does not always wake it: so ends of epochs take up to a minute, and with one
visible core, where it is never quick enough, seconds each. Without it parallel transformations
have as many calls at a time as there are cores, and a pipeline is not given a `prefetch` of its
own; here it is. What that costs and gains, pipeline by pipeline, `benchmarks/autotuning.py` says.
"""

from __future__ import annotations

import tensorflow as tf

_BATCHES_AHEAD = 2  # one that is read and one that is made, as the autotuner's own begins


def without_autotuner(dataset: tf.data.Dataset, prefetch: int = _BATCHES_AHEAD) -> tf.data.Dataset:
    """`dataset` as it is read under a strategy.

    Args:
        dataset: a `tf.data.Dataset`.
        prefetch: int, elements that are made ahead of what reads them; 0 for none.

    Returns:
        A dataset of the same elements in the same order; `dataset` itself where its
        `options.autotune.enabled` has been set, to whatever value.
    """
    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    if prefetch:
        dataset = dataset.prefetch(prefetch)
    return dataset.with_options(options)
