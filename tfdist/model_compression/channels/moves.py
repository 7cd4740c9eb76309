"""Operations that move places of a tensor about: NumPy does to labels what they do to numbers."""

from __future__ import annotations

import numpy as np

from tfdist.model_compression.channels.labels import axes_of, shortened
from tfdist.model_compression.channels.operations import (
    _constant,
    _joined,
    _keep_all,
    _rule,
    _shape,
)


def _moved(operation, factors, labels, where, move):
    """The factors behind `move`, a function of an array of the tensor's whole shape."""
    shape = _shape(operation.inputs[0])
    found = []
    for factor in factors:
        moved = shortened(move(np.broadcast_to(factor, shape)))
        if len(axes_of(moved)) > 1:
            labels.keep(factor, f"{where} spreads them over two axes")
        elif axes_of(moved):
            found.append(moved)
        else:  # one place of it is left
            labels.keep(moved, f"{where} takes one of them")
    return found


@_rule("Reshape")
def _reshape(operation, given, labels, where):
    shape = _shape(operation.outputs[0])
    return [_moved(operation, given[0], labels, where, lambda one: one.reshape(shape))]


@_rule("Squeeze", "ExpandDims")
def _ones(operation, given, labels, where):
    return _reshape(operation, given, labels, where)


@_rule("Transpose")
def _transpose(operation, given, labels, where):
    order = _constant(operation, 1)
    if order is None:
        return _keep_all(operation, given, labels, f"{where} transposes by a tensor")
    return [[factor.transpose(order) for factor in given[0]]]


@_rule("BroadcastTo")
def _broadcast_to(operation, given, labels, where):
    shape = _shape(operation.outputs[0])
    return [_joined(shape, [_shape(operation.inputs[0])], given[:1], labels, where)]


@_rule("Tile")
def _tile(operation, given, labels, where):
    sizes = zip(_shape(operation.outputs[0]), _shape(operation.inputs[0]))
    times = [after // before for after, before in sizes]
    return [_moved(operation, given[0], labels, where, lambda one: np.tile(one, times))]


@_rule("StridedSlice")
def _strided_slice(operation, given, labels, where):
    values = [_constant(operation, place) for place in (1, 2, 3)]
    if any(value is None for value in values):
        return _keep_all(operation, given, labels, f"{where} takes a slice that is not known")
    index = _index(operation, *values)
    return [_moved(operation, given[0], labels, where, lambda one: one[index])]


def _index(operation, begin, end, strides):
    masks = {
        name: operation.get_attr(f"{name}_mask")
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list = []
    for place in range(len(begin)):
        set_here = {name: mask >> place & 1 for name, mask in masks.items()}
        if set_here["ellipsis"]:
            index.append(Ellipsis)
        elif set_here["new_axis"]:
            index.append(None)
        elif set_here["shrink_axis"]:
            index.append(int(begin[place]))
        else:
            first = None if set_here["begin"] else int(begin[place])
            last = None if set_here["end"] else int(end[place])
            index.append(slice(first, last, int(strides[place])))
    return tuple(index)


@_rule("Slice")
def _slice(operation, given, labels, where):
    begin, size = _constant(operation, 1), _constant(operation, 2)
    if begin is None or size is None:
        return _keep_all(operation, given, labels, f"{where} takes a slice that is not known")
    after = _shape(operation.outputs[0])
    index = tuple(slice(int(b), int(b) + n) for b, n in zip(begin, after))
    return [_moved(operation, given[0], labels, where, lambda one: one[index])]


@_rule("Split", "SplitV")
def _split(operation, given, labels, where):
    value, axis = (1, 0) if operation.type == "Split" else (0, 2)
    axis = int(_constant(operation, axis))
    shape = _shape(operation.inputs[value])
    found: list = []
    start = 0
    for output in operation.outputs:
        size = _shape(output)[axis]
        index = [slice(None)] * len(shape)
        index[axis] = slice(start, start + size)
        kept = []
        for factor in given[value]:
            if axes_of(factor) == (axis % len(shape),):
                kept.append(factor[tuple(index)])
            else:
                kept.append(factor)
        found.append([factor for factor in kept if axes_of(factor)])
        start += size
    return found


@_rule("ConcatV2")
def _concat(operation, given, labels, where):
    tensors = operation.inputs[:-1]
    shape = _shape(operation.outputs[0])
    axis = int(_constant(operation, len(tensors))) % len(shape)
    own = [[f for f in factors if axes_of(f) == (axis,)] for factors in given[:-1]]
    others = [[f for f in factors if axes_of(f) != (axis,)] for factors in given[:-1]]
    found = _joined(shape, [shape] * len(tensors), others, labels, where)
    if any(own):
        parts = []
        for tensor, factors in zip(tensors, own):
            if len(factors) != 1:
                for factor in factors:
                    labels.keep(factor, f"{where} joins it in a way that is not known")
                size = _shape(tensor)[axis]
                fresh = labels.new(size)
                labels.keep(fresh, f"{where} joins it with something that has no such channels")
                form = [1] * len(shape)
                form[axis] = size
                factors = [fresh.reshape(form)]
            parts.append(factors[0])
        found.append(np.concatenate(parts, axis))
    return [found]


@_rule("Pack")
def _pack(operation, given, labels, where):
    axis = operation.get_attr("axis") % len(_shape(operation.outputs[0]))
    shape = _shape(operation.inputs[0])
    joined = _joined(shape, [shape] * len(operation.inputs), given, labels, where)
    return [[np.expand_dims(factor, axis) for factor in joined]]


@_rule("Unpack")
def _unpack(operation, given, labels, where):
    axis = operation.get_attr("axis") % len(_shape(operation.inputs[0]))
    kept = []
    for factor in given[0]:
        if axes_of(factor) == (axis,):
            labels.keep(factor, f"{where} takes one of them")
        else:
            kept.append(factor.squeeze(axis))
    return [kept for _ in operation.outputs]
