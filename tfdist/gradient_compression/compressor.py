"""What every compressor of gradients does, whatever crosses the wire."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self, TypeVar

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.gradient_compression import inputs, packing, traffic

State = dict[str, list[tf.Tensor]]
_Class = TypeVar("_Class", bound=type)


class Collectives(Protocol):
    """What a compressor asks of the communicator that is handed in.

    See `tfdist.sync.protocol.Communicator`, which can do more.
    """

    num_replicas: int
    replica_id: tf.Tensor

    def all_reduce(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Sums each value over all replicas."""

    def all_gather(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Stacks each value over all replicas."""

    def all_to_all(self, values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Gives each replica rows of its own."""


class Compressor:
    """Averages gradients over replicas in fewer bytes than an all-reduce.

    A compressor owns its collectives and keeps nothing: its state goes in and comes
    out as tensors. Matrices, and tensors of more dimensions, are compressed; those of
    one dimension (biases, scales) and those of fewer than `min_elements` elements are
    not, since they cost more messages and accuracy than bytes. All of these travel in
    one message, and all compressed ones share theirs.

    Where a gradient of any replica is infinite or NaN (a loss scale that is too large),
    the mean holds a NaN on all replicas, so that `keras.optimizers.LossScaleOptimizer`
    skips the step everywhere, and the state stays as it was.

    With one replica everything happens but the sending: the mean is what others would
    have received. No state depends on the number of replicas.

    Limit: all replicas compute on the same kind of device. What they received has the
    same bits, but the last step from it to the mean is each replica's own arithmetic.

    A subclass defines `_exchange` and `_compressed_bytes`, and where it keeps a state
    `_state_specs`; it may narrow `_compresses`.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.BFloat16()
    >>> compressor.bytes_per_step([(512, 512), (512,)], num_replicas=2)
    526336

    Args:
        min_elements: int, tensors with fewer elements are not compressed.
    """

    def __init__(self, min_elements: int = 1024) -> None:
        self.min_elements = integer("min_elements", min_elements, least=1)

    # -- what the caller uses ---------------------------------------------------

    def init(self, variables: Sequence[Any]) -> State:
        """The state before the first step.

        Args:
            variables: list of anything with `.shape` and `.dtype`, in the order of the
                gradients. For a half-precision variable the state is float32, as its
                gradient must be.

        Returns:
            A dict from name to a list of float or integer tensors, the same on all
            replicas; empty if the compressor keeps nothing.

        Raises:
            ValueError: a variable that is not of a floating-point dtype, or whose shape
                is not known.
        """
        specs = [tf.TensorSpec(inputs.shape_of(v), inputs.gradient_dtype(v)) for v in variables]
        return {
            name: [tf.zeros(spec.shape, spec.dtype) for spec in wanted]
            for name, wanted in self._state_specs(specs).items()
        }

    def reduce(
        self, state: State, gradients: Sequence[tf.Tensor], communicator: Collectives
    ) -> tuple[list[tf.Tensor], State]:
        """Averages gradients over all replicas.

        Functional, so that it runs eagerly and in graphs. All replicas must call it
        together, with the same shapes.

        Args:
            state: dict that `init` or the last `reduce` returned.
            gradients: list of float32 or float64 tensors of known shapes, this replica's.
            communicator: speaks with the other replicas: `num_replicas`, `replica_id`,
                `all_reduce`, `all_gather` and `all_to_all`.

        Returns:
            `(mean, state)`: a list of tensors like `gradients`, bit-identical on all
            replicas, and the state for the next step.

        Raises:
            ValueError: gradients that are not dense, not float32 or float64, of unknown
                shape, or for which the state was not made.
        """
        gradients = [inputs.checked(gradient) for gradient in gradients]
        if not gradients:
            return [], state
        self._check_state(state, gradients)
        # What is packed has one dtype. Models that mix float32 with float64 are rare: for
        # them the few bytes more are simpler than a message a dtype.
        widest = max((g.dtype for g in gradients), key=lambda dtype: dtype.size)
        given = {name: [_widened(v, widest) for v in values] for name, values in state.items()}
        means, new_state, finite = self._reduce(
            given, [_widened(g, widest) for g in gradients], communicator
        )
        means = [_cast(mean, g.dtype) for mean, g in zip(means, gradients)]
        if state:
            new_state = tf.nest.map_structure(lambda v, old: _cast(v, old.dtype), new_state, state)
            new_state = _select(finite, new_state, state)
        return _with_nan_unless(finite, means), new_state

    def bytes_per_step(
        self, shapes: Iterable[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> int:
        """Bytes that one replica sends in one `reduce`.

        Args:
            shapes: list of the gradients' shapes.
            num_replicas: int.
            dtype_bytes: bytes of a gradient's element.

        Returns:
            int.
        """
        shapes = [tuple(shape) for shape in shapes]
        compressed = [shape for shape in shapes if self._compresses(shape)]
        rest = sum(math.prod(shape) for shape in shapes if not self._compresses(shape))
        total = traffic.all_reduce_bytes(rest * dtype_bytes, num_replicas)
        if compressed:
            total += self._compressed_bytes(compressed, num_replicas, dtype_bytes)
        return round(total)

    def check(self, optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
        """Raises where this compressor cannot serve a training.

        Args:
            optimizer: the Keras optimizer that will apply the mean; it may be wrapped in a
                `keras.optimizers.LossScaleOptimizer`.
            variables: list of the trainable variables.

        Raises:
            ValueError: says what cannot be served, and what to do.
        """
        for variable in variables:
            inputs.gradient_dtype(variable)
            inputs.shape_of(variable)

    def get_config(self) -> dict[str, Any]:
        return {"min_elements": self.min_elements}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    # -- what a subclass defines --------------------------------------------------

    def _compresses(self, shape: Sequence[int]) -> bool:
        """Whether a gradient of `shape` is compressed."""
        return len(shape) >= 2 and math.prod(shape) >= self.min_elements

    def _state_specs(self, gradients: Sequence[Any]) -> dict[str, list[tf.TensorSpec]]:
        """What the state looks like.

        Args:
            gradients: list of anything with the `.shape` and `.dtype` of the gradients.

        Returns:
            A dict from name to a list of `tf.TensorSpec`.
        """
        return {}

    def _exchange(
        self,
        state: State,
        compressed: list[tf.Tensor],
        rest: list[tf.Tensor],
        communicator: Collectives,
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], State, tf.Tensor]:
        """Averages gradients of one dtype.

        Args:
            state: dict.
            compressed: list, not empty, of the gradients that are to be compressed.
            rest: list of the others.
            communicator: see `reduce`.

        Returns:
            `(means of compressed, means of rest, state, finite)`; `finite` is a scalar
            bool tensor, the same on all replicas: False if a gradient of any was not.
        """
        raise NotImplementedError

    def _compressed_bytes(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int
    ) -> float:
        """Bytes that one replica sends for gradients of `shapes`, which are compressed."""
        raise NotImplementedError

    def _after_mean_of_rest(
        self, state: State, means: list[tf.Tensor]
    ) -> tuple[list[tf.Tensor], State]:
        """May change the means of what is not compressed; returns `(means, state)`."""
        return means, state

    # -- in common ---------------------------------------------------------------

    def _reduce(self, state, gradients, communicator):
        chosen = [self._compresses(gradient.shape) for gradient in gradients]
        compressed = [g for g, is_chosen in zip(gradients, chosen) if is_chosen]
        rest = [g for g, is_chosen in zip(gradients, chosen) if not is_chosen]
        if compressed:
            means, rest, state, finite = self._exchange(state, compressed, rest, communicator)
        else:
            means, (rest, finite) = [], self._plain_mean(rest, communicator)
        rest, state = self._after_mean_of_rest(state, rest)
        means, rest = iter(means), iter(rest)
        return [next(means if is_chosen else rest) for is_chosen in chosen], state, finite

    def _plain_mean(self, values, communicator):
        """Means of uncompressed values in one message, and whether all were finite.

        A sum is not finite where one of its terms is not, so no flag needs to be sent.
        """
        if not values:
            return [], tf.constant(True)
        totals = communicator.all_reduce(values)
        return [total / communicator.num_replicas for total in totals], packing.all_finite(totals)

    def _specs_of_compressed(self, gradients):
        """For the state: one tensor like each gradient that is compressed."""
        return [tf.TensorSpec(g.shape, g.dtype) for g in gradients if self._compresses(g.shape)]

    def _check_state(self, state, gradients):
        expected, received = _shapes(self._state_specs(gradients)), _shapes(state)
        if received != expected:
            raise ValueError(
                f"`{type(self).__name__}.reduce` received a state of the shapes {received}, and "
                f"expected {expected} for these gradients. Hand back what `init(variables)` or "
                "the last `reduce` returned, with the gradients in the order of the variables."
            )


def register(compressor: _Class) -> _Class:
    """Makes a compressor known to Keras' serialization."""
    return keras.saving.register_keras_serializable(package="tfdist")(compressor)


def _shapes(state):
    return {name: [tuple(value.shape) for value in values] for name, values in state.items()}


def _cast(value, dtype):
    return value if value.dtype == dtype else tf.cast(value, dtype)


def _widened(value, dtype):
    return _cast(value, dtype) if value.dtype.is_floating else value


def _select(condition, new, old):
    """`new` if `condition`, else `old`; without touching the elements."""
    flat_new, flat_old = tf.nest.flatten(new), tf.nest.flatten(old)
    flat = tf.cond(
        condition,
        lambda: [tf.identity(value) for value in flat_new],
        lambda: [tf.identity(value) for value in flat_old],
    )
    return tf.nest.pack_sequence_as(old, flat)


def _with_nan_unless(finite, means):
    """Puts NaN into the smallest of the means if `finite` is False."""
    sizes = packing.sizes_of(means)
    nonempty = [position for position, size in enumerate(sizes) if size]
    if not nonempty:
        return means
    smallest = min(nonempty, key=lambda position: sizes[position])
    mean, means = means[smallest], list(means)
    means[smallest] = tf.where(finite, mean, tf.constant(float("nan"), mean.dtype))
    return means
