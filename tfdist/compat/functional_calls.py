"""The calls that a functional model is made of.

Needs: `Functional._nodes_by_depth`, `Sequential._functional`; of its nodes `.operation`,
`.input_tensors`, `.outputs`, `.is_input`, `.arguments.fill_in`; `Layer._call_has_training_arg`; the
class `Add` of `keras.src.ops.numpy`, which `x + y` and `keras.ops.add` make of Keras tensors.
Why: the public `Model.layers` and `Model.operations` say what is called, not with what.
"""

import dataclasses
from typing import Any

import keras
from keras.src.ops import numpy as keras_numpy


@dataclasses.dataclass(frozen=True)
class Call:
    """A layer, or another operation of Keras, that was called in a functional model.

    Attributes:
        operation: the Keras layer or operation.
        inputs: list of `keras.KerasTensor`, what it was called with.
        outputs: list of `keras.KerasTensor`, what it returned.
    """

    operation: Any
    inputs: list
    outputs: list
    _node: Any = dataclasses.field(repr=False)

    def again(self, tensors, training):
        """Calls the operation with the values that `tensors` has by the ids of `inputs`.

        Returns:
            A list of the values of `outputs`.
        """
        args, kwargs = self._node.arguments.fill_in(tensors)
        if getattr(self.operation, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": training}
        return keras.tree.flatten(self.operation(*args, **kwargs))


def functional_of(layer):
    """The functional model that a layer is, or that a sequential one has; else None."""
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return None
    functional = getattr(layer, "_functional", None) or layer
    return functional if hasattr(functional, "_nodes_by_depth") else None


def calls_of(functional):
    """A list of `Call`, from the inputs to the outputs, without the inputs' own."""
    found = []
    for depth in sorted(functional._nodes_by_depth, reverse=True):
        for node in functional._nodes_by_depth[depth]:
            if node.operation is not None and not node.is_input:
                inputs, outputs = list(node.input_tensors), list(node.outputs)
                found.append(Call(node.operation, inputs, outputs, node))
    return found


def is_addition(operation):
    """Whether it is an `Add` layer, or what `x + y` makes of Keras tensors."""
    return isinstance(operation, (keras.layers.Add, keras_numpy.Add))
