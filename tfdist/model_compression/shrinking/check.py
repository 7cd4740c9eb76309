"""Whether a smaller model computes what the larger one does."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfdist.model_compression.inference_graph import input_specs, sizes_of

# By dtype: the largest difference beside the largest output.
_BOUNDS = {"float64": 1e-10, "float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}


def check_same_outputs(model: keras.Model, small: keras.Model) -> None:
    """Compares the outputs of both for random inputs.

    Raises:
        ValueError: they differ.
    """
    difference, bound = largest_difference(model, small)
    if not difference <= bound:
        raise ValueError(
            f"Without its pruned channels {model.name!r} computes something else: outputs differ "
            f"by {difference:.1e} of the largest one, where {bound:.0e} was expected. A layer "
            "that computes with its own size (as `x / sqrt(units)`) does so; leave what it reads "
            "out by `filters` when you prune."
        )


def largest_difference(model: keras.Model, small: keras.Model) -> tuple[float, float]:
    """The largest difference of outputs beside the largest output, and what is allowed."""
    inputs = random_inputs(model)
    differences, bounds = [0.0], [1e-10]
    for one, other in zip(*(keras.tree.flatten(m(inputs, training=False)) for m in (model, small))):
        name = keras.backend.standardize_dtype(one.dtype)
        one, other = (np.asarray(keras.ops.cast(x, "float64")) for x in (one, other))
        differences.append(float(np.max(np.abs(one - other)) / max(np.max(np.abs(one)), 1e-30)))
        bounds.append(_BOUNDS.get(name, 0.0))
    if keras.mixed_precision.dtype_policy().compute_dtype in ("float16", "bfloat16"):
        bounds.append(_BOUNDS[keras.mixed_precision.dtype_policy().compute_dtype])
    return max(differences), max(bounds)


def random_inputs(model: keras.Model) -> Any:
    """Inputs as `model` takes them: normal numbers, and 0 or 1 where it takes integers.

    Rows are of several sizes, for large ones may only show that a softmax is saturated.
    """
    random, sizes = np.random.default_rng(0), np.array([1.0, 0.1, 0.01])

    def one(spec):
        shape = sizes_of(spec.shape, len(sizes))
        if "int" in spec.dtype or spec.dtype == "bool":
            return keras.ops.convert_to_tensor(random.integers(0, 2, shape).astype(spec.dtype))
        scale = np.resize(sizes, shape[0]).reshape([-1] + [1] * (len(shape) - 1))
        value = scale * random.normal(size=shape)
        return keras.ops.convert_to_tensor(value.astype(spec.dtype))

    return keras.tree.map_structure(one, input_specs(model))
