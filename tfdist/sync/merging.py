"""State of layers that is neither a mean nor a sum over replicas: Keras has no word for it.

The range that an observer has seen is the widest of all replicas (a mean of maxima is too
small), and a sample of what passed by is drawn from what all have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import tensorflow as tf

if TYPE_CHECKING:
    import keras


_OPS = ("max", "min")


def merge_by(
    variable: keras.Variable, rule: str | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> None:
    """Says how a layer's state becomes that of all replicas: at the end of a step.

    Under a local algorithm, at its synchronisations. NaN where a replica has NaN.

    Example:

    >>> import keras
    >>> class Range(keras.layers.Layer):
    ...     def build(self, shape):
    ...         self.largest = self.add_weight(initializer="zeros", trainable=False)
    ...         merge_by(self.largest, "max")
    ...
    ...     def call(self, x):
    ...         self.largest.assign(keras.ops.maximum(self.largest, keras.ops.max(x)))
    ...         return x

    Args:
        variable: a Keras variable that is not trainable.
        rule: "max", "min", or a function that is traced, of `(values, examples)`: what each
            replica has, of shape `(num_replicas, *shape)`, and how many examples each has
            seen, float64 of shape `(num_replicas,)`; it returns what all get.

    Raises:
        ValueError: another rule, or a variable that is trained.
    """
    if rule not in _OPS and not callable(rule):
        raise ValueError(f'rule={rule!r}: expected "max", "min" or a function.')
    if variable.trainable:
        raise ValueError(
            f"{variable.path!r} is trained: replicas agree about it through its gradients. Pass "
            "`trainable=False` to `add_weight` if only layers assign it."
        )
    vars(variable)["_tfdist_merge"] = rule


def merge_rule(variable):
    """What `merge_by` was told of a Keras variable, or None."""
    return vars(variable).get("_tfdist_merge")


def merged(variables, values, examples, communicator):
    """What the state of all replicas is. Communicates: one message a rule and dtype.

    Args:
        variables: list of Keras variables that have a rule.
        values: list of tensors, what this replica has of each.
        examples: scalar tensor, how many examples this replica has seen.
        communicator: a `tfdist.sync.protocol.Communicator`.

    Returns:
        A list of tensors like `values`; the same on all replicas.
    """
    results = [None] * len(variables)
    rules = [merge_rule(variable) for variable in variables]
    for op in _OPS:
        places = [place for place, rule in enumerate(rules) if rule == op]
        wide = [_wide(values[place]) for place in places]
        for place, value in zip(places, communicator.all_reduce(wide, op) if wide else ()):
            results[place] = tf.cast(value, values[place].dtype)
    places = [place for place, rule in enumerate(rules) if rule not in _OPS]
    if places:
        mine = [*(values[place] for place in places), tf.cast(examples, tf.float64)]
        *stacked, counts = communicator.all_gather(mine)
        for place, every in zip(places, stacked):
            results[place] = tf.cast(rules[place](every, counts), values[place].dtype)
    return results


def _wide(value):
    """Of a type that collectives know: half precision as float32, which holds it exactly."""
    return tf.cast(value, tf.float32) if value.dtype.is_floating and value.dtype.size < 4 else value
