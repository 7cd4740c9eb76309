"""The graph of a model's prediction: every operation, and which variable it reads.

Keras' own structure ends at the layers that hold others in attributes, at subclassed models and
at what a `call` computes by itself. TensorFlow's graph of one prediction holds all of it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat.layers import input_structure
from tfdist.compat.variables import held

# Tried for axes whose length the model leaves open; short ones where a table of positions ends.
_LENGTHS = (64, 32, 16, 8)


@dataclasses.dataclass(frozen=True)
class InferenceGraph:
    """One prediction as a graph.

    Attributes:
        graph: the `tf.Graph`; all shapes in it are known.
        inputs: list of its tensors that are the model's inputs.
        outputs: list of its tensors that are the model's outputs.
        variables: dict of the model's Keras variables by the name of the tensor that hands them
            in (a resource); `ReadVariableOp` has it as its input.
    """

    graph: tf.Graph
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]
    variables: dict[str, keras.Variable]


def inference_graph(model: keras.Model, rows: int = 1) -> InferenceGraph:
    """The graph of `model(x, training=False)`.

    Args:
        model: a built Keras model of any kind.
        rows: int, the size of the batch.

    Raises:
        ValueError: the shapes of its inputs are not known, or it cannot be called with them.
    """
    error: Exception | None = None
    for length in _LENGTHS:
        inputs = keras.tree.map_structure(
            lambda one, length=length: tf.TensorSpec(_known(one.shape, rows, length), one.dtype),
            input_specs(model),
        )
        function = tf.function(lambda x: model(x, training=False), autograph=False)
        try:
            concrete = function.get_concrete_function(inputs)
        except Exception as failed:  # a shorter one may do
            error = error or failed
            continue
        handles = {id(held(v).handle): v for v in model.variables if hasattr(held(v), "handle")}
        variables = {
            inside.name: handles[id(outside)]
            for outside, inside in concrete.graph.captures
            if id(outside) in handles
        }
        captured = {inside.name for _, inside in concrete.graph.captures}  # constants, too
        given = [t for t in concrete.inputs if t.name not in captured]
        return InferenceGraph(concrete.graph, given, tf.nest.flatten(concrete.outputs), variables)
    raise ValueError(
        f"The model {model.name!r} cannot be called with inputs of the shapes that it was built "
        f"with: {error}"
    ) from error


def input_specs(model: keras.Model) -> Any:
    """What `model` is called with: `keras.KerasTensor` in its own structure.

    Raises:
        ValueError: it is not known.
    """
    if getattr(model, "inputs", None):
        return input_structure(model)
    config = model.get_build_config() or {}
    shapes = config.get("input_shape")
    if shapes is None and len(config.get("shapes_dict", {})) == 1:
        (shapes,) = config["shapes_dict"].values()
    if not shapes:
        raise ValueError(
            f"The shapes of the inputs of {model.name!r} are not known: expected a model that "
            "has been called, or built with `build(input_shape)`."
        )
    return keras.tree.map_shape_structure(
        lambda shape: keras.KerasTensor((None, *shape[1:]), dtype=keras.config.floatx()), shapes
    )


def _known(shape, rows, length):
    shape = list(shape)
    return [rows if shape[0] is None else shape[0]] + [
        length if size is None else size for size in shape[1:]
    ]
