"""The graph of a model's prediction: every operation, and which variable it reads.

Keras' own structure ends at the layers that hold others in attributes, at subclassed models and
at what a `call` computes by itself. TensorFlow's graph of one prediction holds all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.compat.layers import calls_noted, input_structure
from tfdist.compat.variables import held

# Tried for axes whose length the model leaves open: images may not be too small for their
# windows, and texts not longer than a table of positions.
_LENGTHS = (64, 32, 16, 8)
_WORDS = 8


@dataclasses.dataclass(frozen=True)
class InferenceGraph:
    """One prediction as a graph.

    Attributes:
        graph: the `tf.Graph`; all shapes in it are known.
        inputs: list of its tensors that are the model's inputs.
        outputs: list of its tensors that are the model's outputs.
        variables: dict of the model's Keras variables by the name of the tensor that hands them
            in (a resource); `ReadVariableOp` has it as its input.
        owners: dict of the innermost layer that computes an operation, by the operation's name.
        calls: list of a layer, what it was called with and what it returned, inner calls first.
    """

    graph: tf.Graph
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]
    variables: dict[str, keras.Variable]
    owners: dict[str, keras.Layer]
    calls: list[tuple[keras.Layer, Any, Any]]


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
            lambda one, length=length: _spec(one, rows, length),
            input_specs(model),
        )
        function = tf.function(lambda x: model(x, training=False), autograph=False)
        try:
            with calls_noted(model) as (owners, calls):
                concrete = function.get_concrete_function(inputs)
        except Exception as failed:  # a shorter one may do
            error = error or failed
            continue
        handles = {id(one.handle): v for v in model.variables for one in _copies(held(v))}
        variables = {
            inside.name: handles[id(outside)]
            for outside, inside in concrete.graph.captures
            if id(outside) in handles
        }
        captured = {inside.name for _, inside in concrete.graph.captures}  # constants, too
        given = [t for t in concrete.inputs if t.name not in captured]
        outputs = tf.nest.flatten(concrete.outputs)
        return InferenceGraph(concrete.graph, given, outputs, variables, owners, calls)
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


def _copies(value):
    """A variable, or those of it on each replica."""
    copies = getattr(value, "values", None) or [value]
    return [one for one in copies if hasattr(one, "handle")]


def _spec(tensor, rows, length):
    words = "int" in tensor.dtype or tensor.dtype == "bool"
    return tf.TensorSpec(sizes_of(tensor.shape, rows, _WORDS if words else length), tensor.dtype)


def sizes_of(shape: Sequence[int | None], rows: int, length: int = _WORDS) -> list[int]:
    """`shape` with `rows` for an open batch, and `length` for each other open axis."""
    first, *rest = shape
    return [rows if first is None else first] + [length if n is None else n for n in rest]
