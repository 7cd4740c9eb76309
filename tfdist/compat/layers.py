"""All layers of a model, those inside of others and of the user's own classes, too.

Needs: `Layer._flatten_layers`, `Layer._trainable_variables`, `._non_trainable_variables`,
`Functional._inputs_struct`, `Sequential._functional`,
`KerasTensor._keras_history`, `Trainer._compile_config`.
Why: `Model.layers` holds the outermost only, and `Layer.variables` those of inner layers, too;
no public name says which variables are a layer's own, and `Model.inputs` is a flat list whatever
the model is called with. `Layer.call` is public, but set on an object past `Layer.__setattr__`.
"""

import contextlib
import functools

import keras
import tensorflow as tf

from tfdist.compat.replacing import note

_COMPRESSED = "on a model, while `tfdist.model_compression` looks at it"

note(
    __name__,
    keras.Layer,
    _COMPRESSED,
    call=("the graph of a prediction is traced", "notes which layer computes what"),
)
note(
    __name__,
    keras.Model,
    _COMPRESSED,
    compiled=("`shrink` copies the layers", "is False: the copy is compiled later"),
)


def all_layers(model):
    """The model's layers in the order in which they were made; a shared one once."""
    return list(dict.fromkeys(model._flatten_layers()))


def own_variables(layer):
    """The variables that a layer has made itself, without those of layers inside of it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_weights(layer):
    """Those of them that are trained, or were before the layer was frozen: no statistics."""
    return list(layer._trainable_variables)


def input_structure(model):
    """What a functional or sequential model is called with: a structure of `KerasTensor`."""
    functional = getattr(model, "_functional", None) or model
    return functional._inputs_struct


def new_input(tensor, shape):
    """An input layer's tensor, named as that of `tensor`, of another shape with the batch."""
    name = tensor._keras_history.operation.name
    return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=name)


@contextlib.contextmanager
def calls_noted(model):
    """Notes which layer computes what, while a graph is made inside.

    Yields:
        A dict of the innermost layer by the names of the operations of its call, and a list of
        a layer, what it was called with and what it returned, inner calls first.
    """
    owners, calls, noted = {}, [], []

    def noting(layer, call, *args, **kwargs):
        before = len(tf.compat.v1.get_default_graph().get_operations())
        outputs = call(*args, **kwargs)
        for operation in tf.compat.v1.get_default_graph().get_operations()[before:]:
            owners.setdefault(operation.name, layer)
        calls.append((layer, args, outputs))
        return outputs

    for layer in all_layers(model):
        if "call" not in vars(layer):
            call = functools.wraps(layer.call)(functools.partial(noting, layer, layer.call))
            vars(layer)["call"] = call
            noted.append(layer)
    try:
        yield owners, calls
    finally:
        for layer in noted:
            del vars(layer)["call"]


@contextlib.contextmanager
def not_compiled(model):
    """Inside, Keras' `clone_model` takes `model` for one that was not compiled."""
    compiled = model.compiled
    model.compiled = False
    try:
        yield
    finally:
        model.compiled = compiled


def compile_arguments(model):
    """A dict of what `compile` was called with; None where the class has a `compile` of its own."""
    config = getattr(model, "_compile_config", None)
    if config is None or type(model).compile is not keras.Model.compile:
        return None
    return dict(config.config)
