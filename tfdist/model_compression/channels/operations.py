"""What each TensorFlow operation does to channels.

A tensor has *factors*: arrays of labels of its rank, of size 1 along the axes that they say
nothing of. A kernel has one for its inputs and one for its outputs; what a convolution returns
has one, along the channels. A rule takes an operation and the factors of its inputs, says what is
the same and what must stay, and returns the factors of the outputs.

An operation without a rule keeps all that it reads. So does a rule that meets what it does not
know: the worst that can happen is that less is pruned, and the reason says where.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfdist.model_compression.channels.labels import Labels, axes_of

Factors = list[np.ndarray]
Rule = Callable[[tf.Operation, list[Factors], Labels, str], list[Factors]]

RULES: dict[str, Rule] = {}


def follow(
    operation: tf.Operation, given: list[Factors], labels: Labels, where: str
) -> list[Factors]:
    """The factors of the outputs of `operation`.

    Args:
        operation: the TensorFlow operation.
        given: the factors of each of its inputs.
        labels: the `Labels`, which learn what the operation says.
        where: str, the layer that it belongs to, for reasons.
    """
    if not any(given):
        return [[] for _ in operation.outputs]
    rule = RULES.get(operation.type)
    if rule is None:
        return _keep_all(operation, given, labels, f"{where} computes a {operation.type} of it")
    try:
        return rule(operation, given, labels, where)
    except (ValueError, IndexError, TypeError):  # shapes that do not fit the rule
        return _keep_all(
            operation, given, labels, f"{where} computes a {operation.type} that is not known"
        )


def _rule(*types):
    def register(function):
        for name in types:
            RULES[name] = function
        return function

    return register


def _keep_all(operation, given, labels, reason):
    for factors in given:
        for factor in factors:
            labels.keep(factor, reason)
    return [[] for _ in operation.outputs]


def _shape(tensor):
    return tuple(tensor.shape.as_list())


def _constant(operation, place):
    return tf.get_static_value(operation.inputs[place])


# -- element by element -----------------------------------------------------------------------

_UNARY = (
    "Identity Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Erf Erfc Exp Expm1 Log Log1p Neg Rsqrt "
    "Sqrt Square Abs Cast StopGradient Softplus Softsign Sign Floor Ceil Round Rint Reciprocal "
    "Inv PreventGradient CheckNumerics Snapshot Sin Cos LogicalNot IsNan IsInf IsFinite ZerosLike "
    "OnesLike"
)
_BROADCAST = (
    "Add AddV2 AddN Sub Mul RealDiv Div DivNoNan MulNoNan Maximum Minimum Pow FloorDiv "
    "SquaredDifference Greater GreaterEqual Less LessEqual Equal NotEqual LogicalAnd LogicalOr "
    "Select SelectV2 ClipByValue"
)


@_rule(*_UNARY.split())
def _unary(operation, given, labels, where):
    return [given[0] for _ in operation.outputs]


@_rule("IdentityN")
def _identities(operation, given, labels, where):
    return given


@_rule(*_BROADCAST.split())
def _broadcast(operation, given, labels, where):
    shape = _shape(operation.outputs[0])
    shapes = [_shape(tensor) for tensor in operation.inputs]
    return [_joined(shape, shapes, given, labels, where)]


@_rule("BiasAdd")
def _bias(operation, given, labels, where):
    channels = -1 if operation.get_attr("data_format") != b"NCHW" else 1
    rank = len(_shape(operation.outputs[0]))
    form = [1] * rank
    form[channels] = -1
    bias = [factor.reshape(form) for factor in given[1]]
    size = _shape(operation.inputs[1])[0]
    shapes = [_shape(operation.inputs[0]), [size if n == -1 else 1 for n in form]]
    return [_joined(shapes[0], shapes, [given[0], bias], labels, where)]


@_rule("FusedBatchNormV3", "FusedBatchNormV2", "FusedBatchNorm")
def _fused_normalization(operation, given, labels, where):
    channels = 3 if operation.get_attr("data_format") != b"NCHW" else 1
    form = [1, 1, 1, 1]
    form[channels] = -1
    factors = [given[0], *([one.reshape(form) for one in more] for more in given[1:5])]
    shape = _shape(operation.inputs[0])
    wide = [shape] + [[size if n == -1 else 1 for size, n in zip(shape, form)]] * 4
    return [_joined(shape, wide, factors, labels, where), *([] for _ in operation.outputs[1:])]


def _joined(shape, shapes, given, labels, where):
    """Factors of what is computed, element by element, of tensors that are broadcast."""
    aligned = [[_to_rank(factor, len(shape)) for factor in factors] for factors in given]
    found = []
    for axis in range(len(shape)):
        groups = [[f for f in factors if axes_of(f) == (axis,)] for factors in aligned]
        most = max(groups, key=len)
        if not most:
            continue
        for one, own_shape in zip(groups, shapes):
            own = (1,) * (len(shape) - len(own_shape)) + tuple(own_shape)
            if one is most or own[axis] == 1:
                continue
            _pair_up(most, one, labels, where)
        found += most
    return found


def _pair_up(most, one, labels, where):
    """The factors along one axis of two operands: those of the same pattern are the same."""
    left = list(one)
    for factor in most:
        match = next((f for f in left if _pattern(f) == _pattern(factor)), None)
        if match is None and len(most) == len(one) == 1:
            match = left[0]
        if match is None:
            labels.keep(factor, f"{where} joins it with something that has no such channels")
        else:
            labels.same(factor, match)
            left = [f for f in left if f is not match]
    for factor in left:
        labels.keep(factor, f"{where} joins it with something that has no such channels")


def _pattern(factor):
    flat = factor.reshape(-1)
    first = {label: place for place, label in reversed(list(enumerate(flat.tolist())))}
    return tuple(first[label] for label in flat.tolist())


def _to_rank(factor, rank):
    return factor.reshape((1,) * (rank - factor.ndim) + factor.shape)


# -- over an axis ------------------------------------------------------------------------------


@_rule("Mean", "Sum", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm", "ArgMax", "ArgMin")
def _reduce(operation, given, labels, where):
    axes = _constant(operation, 1)
    rank = len(_shape(operation.inputs[0]))
    if axes is None:
        return _keep_all(operation, given, labels, f"{where} reduces axes that are not known")
    axes = {int(axis) % rank for axis in np.reshape(axes, -1)}
    has_flag = operation.type not in ("ArgMax", "ArgMin")
    keeps = has_flag and operation.get_attr("keep_dims")
    kept = []
    for factor in given[0]:
        if axes & set(axes_of(factor)):
            labels.keep(factor, f"{where} computes the {operation.type.lower()} over all of them")
        else:
            kept.append(factor if keeps else factor.squeeze(tuple(axes)))
    return [kept]


@_rule("Softmax", "LogSoftmax")
def _softmax(operation, given, labels, where):
    kept = []
    for factor in given[0]:
        if axes_of(factor) == (factor.ndim - 1,):
            labels.keep(factor, f"{where} takes the softmax over all of them")
        else:
            kept.append(factor)
    return [kept]


@_rule("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "SpaceToBatchND", "BatchToSpaceND")
@_rule("Pad", "PadV2", "MirrorPad")
@_rule("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
def _window(operation, given, labels, where):
    before, after = _shape(operation.inputs[0]), _shape(operation.outputs[0])
    kept = []
    for factor in given[0]:
        if all(before[axis] == after[axis] for axis in axes_of(factor)):
            kept.append(factor)
        else:
            labels.keep(factor, f"{where} changes how many there are")
    return [kept]


# -- products ----------------------------------------------------------------------------------


@_rule("MatMul")
def _matmul(operation, given, labels, where):
    left = "ka" if operation.get_attr("transpose_a") else "ak"
    right = "bk" if operation.get_attr("transpose_b") else "kb"
    return [_contracted(operation, given, labels, where, left, right, "ab")]


@_rule("BatchMatMulV2", "BatchMatMul", "BatchMatMulV3")
def _batched(operation, given, labels, where):
    ranks = [len(_shape(tensor)) - 2 for tensor in operation.inputs[:2]]
    names = string.ascii_uppercase[: max(ranks)]
    left = names[len(names) - ranks[0] :] + ("ka" if operation.get_attr("adj_x") else "ak")
    right = names[len(names) - ranks[1] :] + ("bk" if operation.get_attr("adj_y") else "kb")
    return [_contracted(operation, given, labels, where, left, right, names + "ab")]


@_rule("Einsum")
def _einsum(operation, given, labels, where):
    equation = operation.get_attr("equation").decode().replace(" ", "")
    terms, output = equation.split("->")
    terms = terms.split(",")
    if len(terms) != 2 or "." in equation or any(len(set(t)) < len(t) for t in [*terms, output]):
        return _keep_all(operation, given, labels, f"{where} computes einsum({equation!r})")
    return [_contracted(operation, given, labels, where, *terms, output)]


def _contracted(operation, given, labels, where, left, right, output):
    """Factors of a product of two tensors whose axes have names."""
    sizes = [
        dict(zip(names, _shape(tensor))) for names, tensor in zip((left, right), operation.inputs)
    ]
    found = []
    for name in dict.fromkeys(left + right):
        along = [
            [f.reshape(-1) for f in factors if axes_of(f) == (names.index(name),)]
            if name in names
            else []
            for names, factors in zip((left, right), given)
        ]
        both = name in left and name in right
        if both and 1 not in (sizes[0][name], sizes[1][name]):
            most, least = sorted(along, key=len, reverse=True)
            if most:
                _pair_up(most, least, labels, where)
        else:
            most = along[0] or along[1]
        if name in output:
            form = [1] * len(output)
            form[output.index(name)] = -1
            found += [factor.reshape(form) for factor in most]
        elif not both:
            for factor in most:
                labels.keep(factor, f"{where} sums over all of them")
    return found


@_rule("Conv2D", "Conv3D")
def _convolution(operation, given, labels, where):
    if operation.get_attr("data_format") not in (b"NHWC", b"NDHWC"):
        return _keep_all(operation, given, labels, f"{where} has its channels in front")
    x, kernel = (_shape(tensor) for tensor in operation.inputs)
    rank, groups = len(x), x[-1] // kernel[-2]
    along = _along(given[0], rank - 1)
    own, outputs = (_along(given[1], rank - 2 + i) for i in range(2))
    if groups == 1:
        _pair_up_any(along, own, labels, where)
    elif kernel[-2] == 1:  # a group a channel: its outputs go with it
        each = [factor.reshape(groups, -1) for factor in outputs]
        for factor in along:
            for part in each:
                labels.same(factor[:, None], part)
    else:  # of each group the same places go
        _in_all_groups(along, groups, labels)
        _pair_up_any([f.reshape(groups, -1)[0] for f in along], own, labels, where)
        _in_all_groups(outputs, groups, labels)
    return [[_as_channels(factor, rank, rank - 1) for factor in outputs]]


@_rule("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def _transposed_convolution(operation, given, labels, where):
    if operation.get_attr("data_format") not in (b"NHWC", b"NDHWC"):
        return _keep_all(operation, given, labels, f"{where} has its channels in front")
    rank = len(_shape(operation.outputs[0]))
    _pair_up_any(_along(given[2], rank - 1), _along(given[1], rank - 1), labels, where)
    outputs = _along(given[1], rank - 2)
    return [[_as_channels(factor, rank, rank - 1) for factor in outputs]]


@_rule("DepthwiseConv2dNative")
def _depthwise(operation, given, labels, where):
    if operation.get_attr("data_format") != b"NHWC":
        return _keep_all(operation, given, labels, f"{where} has its channels in front")
    multiplier = _shape(operation.inputs[1])[3]
    along, own = _along(given[0], 3), _along(given[1], 2)
    _pair_up_any(along, own, labels, where)
    for factor in _along(given[1], 3):
        labels.keep(factor, f"{where} makes them of one channel")
    outputs = [np.repeat(factor, multiplier) for factor in own or along]
    return [[_as_channels(factor, 4, 3) for factor in outputs]]


def _along(factors, axis):
    return [factor.reshape(-1) for factor in factors if axes_of(factor) == (axis,)]


def _as_channels(factor, rank, axis):
    return factor.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))


def _pair_up_any(one, other, labels, where):
    most, least = sorted((one, other), key=len, reverse=True)
    if most:
        _pair_up(most, least, labels, where)


def _in_all_groups(factors, groups, labels):
    for factor in factors:
        each = factor.reshape(groups, -1)
        labels.same(each, each[:1])


# -- tables ------------------------------------------------------------------------------------


@_rule("GatherV2", "ResourceGather")
def _gather(operation, given, labels, where):
    axis = 0
    if operation.type == "GatherV2":
        axis = int(_constant(operation, 2))
    if operation.get_attr("batch_dims"):
        return _keep_all(operation, given, labels, f"{where} gathers row by row")
    indices = len(_shape(operation.inputs[1]))
    kept = []
    for factor in given[0]:
        if axes_of(factor) == (axis,):
            labels.keep(factor, f"{where} looks rows up")
        else:
            shape = list(factor.shape)
            kept.append(factor.reshape(shape[:axis] + [1] * indices + shape[axis + 1 :]))
    for factor in given[1]:
        labels.keep(factor, f"{where} looks rows up")
    return [kept]
