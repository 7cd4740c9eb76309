"""Which weights of a model can be pruned, and why others are not."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from keras import layers

from tfdist.compat.layers import all_layers, own_variables

Filters = str | Sequence[str] | Callable[[keras.Layer], bool] | None

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
# By class: the attributes that hold kernels. Subclasses count, unless they say otherwise.
_KERNELS = (
    ((layers.Dense, layers.EinsumDense), ("kernel",)),
    (_CONVOLUTIONS + _TRANSPOSED + _DEPTHWISE, ("kernel",)),
    (_SEPARABLE, ("depthwise_kernel", "pointwise_kernel")),
    (
        (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell),
        ("kernel", "recurrent_kernel"),
    ),
)


@dataclasses.dataclass(frozen=True)
class PrunableWeight:
    """A kernel.

    Structures see it as a matrix `(inputs, outputs)`: what an output sums over, and outputs.

    Attributes:
        layer: the Keras layer.
        variable: its Keras variable.
        inputs: tuple of ints, the axes that an output sums over.
        outputs: tuple of ints, the other axes.
    """

    layer: keras.Layer
    variable: keras.Variable
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    @property
    def matrix(self) -> tuple[int, int]:
        rows, columns = (
            math.prod(self.shape[i] for i in axes) for axes in (self.inputs, self.outputs)
        )
        return rows, columns

    def as_matrix(self, tensor: tf.Tensor) -> tf.Tensor:
        """A tensor of the weight's shape as `(inputs, outputs)`."""
        return tf.reshape(tf.transpose(tensor, self.inputs + self.outputs), self.matrix)

    def from_matrix(self, matrix: tf.Tensor) -> tf.Tensor:
        """The other way round."""
        axes = self.inputs + self.outputs
        back = sorted(range(len(axes)), key=axes.__getitem__)
        return tf.transpose(tf.reshape(matrix, [self.shape[i] for i in axes]), back)

    @property
    def name(self) -> str:
        return self.variable.path

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A layer with weights that is not pruned.

    Attributes:
        name: the layer's path.
        reason: why.
    """

    name: str
    reason: str


def weights_of(
    model: keras.Model, filters: Filters = None
) -> tuple[list[PrunableWeight], list[Skipped]]:
    """The kernels of a model that a pass prunes, and the layers that it does not.

    Args:
        model: a built Keras model, of any kind.
        filters: as of `keras.Model.quantize`: a regular expression or several, searched in a
            layer's name, or a function of a layer; what does not match is skipped.

    Raises:
        ValueError: the model has no weights yet; `filters` is something else.
    """
    check_model(model, filters)
    found, skipped, seen = [], [], set()
    for layer in all_layers(model):
        own = [v for v in own_variables(layer) if id(v) not in seen]
        if not own:
            continue
        seen |= {id(variable) for variable in own}
        reason = _reason_to_skip(layer, filters)
        if reason is not None:
            skipped.append(Skipped(layer.path, reason))
            continue
        for name in kernel_names(layer):
            variable = getattr(layer, name)
            found.append(PrunableWeight(layer, variable, *kernel_axes(layer, variable)))
    return found, skipped


def matches(layer: keras.Layer, filters: Filters) -> bool:
    """Whether a pass takes `layer`; as `keras.Model.quantize` reads `filters`."""
    if filters is None:
        return True
    if callable(filters):
        return bool(filters(layer))
    patterns = [filters] if isinstance(filters, str) else filters
    return any(re.search(pattern, layer.name) for pattern in patterns)


def check_model(model: keras.Model, filters: Filters) -> None:
    """Raises ValueError where a model has no weights yet, or `filters` is something else."""
    if not model.weights:
        raise ValueError(
            f"The model {model.name!r} has no weights yet: expected one that is built. Give it "
            "a `keras.Input`, or call it on a batch first."
        )
    if filters is None or callable(filters) or isinstance(filters, str):
        return
    if not isinstance(filters, (list, tuple)) or not all(isinstance(one, str) for one in filters):
        raise ValueError(
            f"filters={filters!r}: expected a regular expression, a list of them, or a function "
            "of a layer that returns a bool."
        )


def _reason_to_skip(layer, filters):
    if not matches(layer, filters):
        return "filters leave it out"
    if not kernel_names(layer):
        kind = type(layer).__name__
        if isinstance(layer, layers.Embedding):
            return "an Embedding: each row serves its own word; factorize or quantize it"
        return f"no kernel that is known of a {kind}"
    if getattr(layer, "quantization_mode", None) is not None:
        return f"it is quantized ({layer.quantization_mode}); prune first, quantize then"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA weights beside its kernel; merge them first"
    if not layer.trainable:
        return "it is not trainable"
    return None


def kernel_names(layer):
    """The attributes of a layer that hold its kernels; none where it is not known."""
    for classes, names in _KERNELS:
        if isinstance(layer, classes):
            return names
    return ()


def is_depthwise(layer, variable):
    """Whether each output of a kernel comes of one input."""
    return isinstance(layer, _DEPTHWISE) or variable is getattr(layer, "depthwise_kernel", None)


def kernel_axes(layer, variable):
    """The axes of a kernel that an output sums over, and the others: mostly the last one."""
    axes = tuple(range(len(variable.shape)))
    if isinstance(layer, layers.EinsumDense):
        # A letter of the kernel that is in the output and not in the input is an output's.
        inputs, kernel, output = re.match(r"(.*),(.*)->(.*)", layer.equation).groups()
        own = {letter for letter in kernel if letter in output and letter not in inputs}
        outputs = tuple(i for i in axes if kernel[i] in own)
        return tuple(i for i in axes if i not in outputs), outputs
    if is_depthwise(layer, variable):
        return axes[:-2], axes[-2:]  # each input and each of its multiples is an output
    if isinstance(layer, _TRANSPOSED):
        return (*axes[:-2], axes[-1]), (axes[-2],)  # Keras has outputs in front of inputs there
    return axes[:-1], axes[-1:]
