"""What `evaluate` gives for a model, also for one that was not compiled."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfdist.compat.compiled import compiled_with


def check(data: Any, models: list[keras.Model]) -> None:
    """Checks what is to be evaluated.

    Raises:
        ValueError: `data` has no targets; no model is compiled.
    """
    datasets = (tf.data.Dataset, keras.utils.PyDataset, tf.distribute.DistributedDataset)
    known = isinstance(data, datasets)
    if not known and not (isinstance(data, (tuple, list)) and len(data) in (2, 3)):
        raise ValueError(
            f"data is a {type(data).__name__}: expected (x, y), (x, y, sample_weight), or a "
            "tf.data.Dataset or PyDataset of such batches."
        )
    if not any(model.compiled for model in models):
        names = " and ".join(repr(model.name) for model in models)
        raise ValueError(
            f"data was given, but {names} is not compiled: expected `compile(loss=..., "
            "metrics=[...])` of it before, or no data."
        )


def evaluated(model: keras.Model, data: Any, compiled: keras.Model) -> dict[str, float]:
    """What `evaluate` gives; under a strategy of several workers all of them must call it.

    Args:
        model: the Keras model.
        data: see `check`.
        compiled: whose loss and metrics are used, if not `model`'s own.
    """
    if compiled is not model:
        with model.distribute_strategy.scope():
            model = _Evaluated(model)
            model.compile(**compiled_with(compiled))
    arguments = data if isinstance(data, (tuple, list)) else (data,)
    names = ("x", "y", "sample_weight")
    found = model.evaluate(**dict(zip(names, arguments)), verbose=0, return_dict=True)
    return {name: float(value) for name, value in found.items()}


class _Evaluated(keras.Model):
    """A model that is compiled for a while, without a change of the one inside."""

    def __init__(self, inner):
        super().__init__(name=inner.name)
        self.inner = inner
        names = getattr(inner, "output_names", None)
        if names:
            self.output_names = names

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)
