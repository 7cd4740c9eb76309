"""How many multiply-accumulates TensorFlow's operations take, from shapes alone."""

from __future__ import annotations

import math
import re


def _convolution(node, shapes, output):
    """Each output sums over the kernel's window and its group's inputs."""
    kernel = shapes[1]
    return kernel and output and math.prod(output) * math.prod(kernel[:-1])


def _depthwise(node, shapes, output):
    kernel = shapes[1]
    return kernel and output and math.prod(output) * math.prod(kernel[:2])


def _transposed(node, shapes, output):
    """Each input is spread over the kernel's window and the outputs, those cut off, too."""
    kernel, given = shapes[1], shapes[2]
    return kernel and given and math.prod(given) * math.prod(kernel[:-1])


def _matrix_product(node, shapes, output):
    summed = _summed(node, *shapes[:2])
    return None if summed is None or output is None else math.prod(output) * summed


def _summed(node, first, second):
    """The length of the axis that two matrices share."""
    turned = [
        any(node.attr[name].b for name in names)
        for names in (("transpose_a", "adj_x"), ("transpose_b", "adj_y"))
    ]
    if first:
        return first[-2] if turned[0] else first[-1]
    if second:
        return second[-1] if turned[1] else second[-2]
    return None


def _einsum(node, shapes, output):
    """Each combination of its letters, once. A single operand multiplies nothing."""
    if len(shapes) < 2:
        return 0
    if any(shape is None for shape in shapes):
        return None
    inputs = node.attr["equation"].s.decode().split("->")[0].split(",")
    sizes: dict[object, int] = {}
    for letters, shape in zip(inputs, shapes):
        parts = re.findall(r"\.\.\.|\w", letters)
        unnamed = len(shape) - sum(part != "..." for part in parts)
        labels: list[object] = []
        for part in parts:  # axes of an ellipsis are counted from the right
            labels += range(-unnamed, 0) if part == "..." else [part]
        for label, size in zip(labels, shape):
            sizes[label] = max(size, sizes.get(label, 1))
    return math.prod(sizes.values())


# By operation: a function of its node, its inputs' shapes and its output's (None: not known).
COUNTED = {
    "Conv2D": _convolution,
    "Conv3D": _convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Conv2DBackpropInput": _transposed,
    "Conv3DBackpropInputV2": _transposed,
    "MatMul": _matrix_product,
    "BatchMatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "BatchMatMulV3": _matrix_product,
    "Einsum": _einsum,
}
