"""All layers of a model, those inside of others and of the user's own classes, too.

Needs: `Layer._flatten_layers`, `Layer._trainable_variables`, `._non_trainable_variables`,
`Functional._inputs_struct`, `Sequential._functional`.
Why: `Model.layers` holds the outermost only, and `Layer.variables` those of inner layers, too;
no public name says which variables are a layer's own, and `Model.inputs` is a flat list whatever
the model is called with.
"""


def all_layers(model):
    """The model's layers in the order in which they were made; a shared one once."""
    return list(dict.fromkeys(model._flatten_layers()))


def own_variables(layer):
    """The variables that a layer has made itself, without those of layers inside of it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def input_structure(model):
    """What a functional or sequential model is called with: a structure of `KerasTensor`."""
    functional = getattr(model, "_functional", None) or model
    return functional._inputs_struct
