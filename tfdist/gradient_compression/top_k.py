"""The largest elements of gradients on the wire, with error feedback."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.gradient_compression import packing, traffic
from tfdist.gradient_compression.compressor import Compressor, register

_INDEX_BYTES = 4


@register
class TopK(Compressor):
    """Sends the largest elements of each tensor, and keeps the others for later.

    A replica adds its gradient to the residual of the steps before, sends the `ratio` of
    the elements that are largest in absolute value, with their indices, and keeps the
    rest. All gather everyone's: the bytes grow with the number of replicas,
    8 (N - 1) `ratio` an element of float32 against 8 (N - 1) / N of an all-reduce. So
    choose a ratio well below 1 / N.

    With `momentum` this is deep gradient compression, for plain SGD: the replica
    accumulates its velocity u = momentum x u + g in the place of g, as the momentum of
    the optimizer would otherwise act on what arrives late (momentum correction), and
    forgets the velocity of what it has sent (momentum factor masking). What is not
    compressed has the usual momentum, so `TopK(1.0, momentum=0.9)` is momentum SGD. The
    paper's clipping of local gradients and its warm-up of the ratio are not part of it.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.TopK(0.01)
    >>> compressor.bytes_per_step([(1000, 1000)], num_replicas=2)
    80000

    Args:
        ratio: float in (0, 1], of the elements of a tensor that are sent, at least one;
            1.0 is no compression.
        momentum: float in (0, 1), or None. Give it here and not to the optimizer, which
            must be `keras.optimizers.SGD`.
        min_elements: int, tensors with fewer elements are not compressed.

    Reference:
        Sparsified SGD with memory (arXiv 1809.07599); deep gradient compression
        (arXiv 1712.01887).
    """

    def __init__(
        self, ratio: float, momentum: float | None = None, min_elements: int = 1024
    ) -> None:
        super().__init__(min_elements)
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio={ratio!r}: expected a number above 0 and at most 1.")
        if momentum is not None and not 0 < momentum < 1:
            raise ValueError(f"momentum={momentum!r}: expected None or a number between 0 and 1.")
        self.ratio = float(ratio)
        self.momentum = None if momentum is None else float(momentum)

    def get_config(self) -> dict[str, Any]:
        return {"ratio": self.ratio, "momentum": self.momentum, **super().get_config()}

    def check(self, optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> None:
        super().check(optimizer, variables)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        plain = isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum
        if self.momentum is not None and not plain:
            raise ValueError(
                f"`TopK(momentum={self.momentum})` received the optimizer "
                f"{type(optimizer).__name__} with momentum={getattr(optimizer, 'momentum', None)}: "
                "expected `keras.optimizers.SGD` without momentum, whose momentum it takes over. "
                "Use that one, or `TopK` without momentum."
            )

    def _compresses(self, shape):
        return self.ratio < 1 and super()._compresses(shape)

    def _state_specs(self, gradients):
        state = {"residuals": self._specs_of_compressed(gradients)}
        if self.momentum is not None:
            state["velocities"] = list(state["residuals"])
            state["plain_velocities"] = [
                tf.TensorSpec(g.shape, g.dtype) for g in gradients if not self._compresses(g.shape)
            ]
        return {name: specs for name, specs in state.items() if specs}

    def _exchange(self, state, compressed, rest, communicator):
        n = communicator.num_replicas
        rest, rest_finite = self._plain_mean(rest, communicator)
        added = packing.pack(compressed)
        if self.momentum is not None:
            velocity = self.momentum * packing.pack(state["velocities"]) + added
            added = velocity
        corrected = packing.pack(state["residuals"]) + added
        # NaN has no order: it need not be among the largest, and may break a sort.
        own_finite = packing.all_finite([corrected])
        magnitudes = tf.math.multiply_no_nan(
            tf.abs(corrected), tf.cast(own_finite, corrected.dtype)
        )
        indices = self._largest(magnitudes, compressed)
        values = tf.where(own_finite, tf.gather(corrected, indices), float("nan"))
        all_values, all_indices = _gather(values, indices, communicator)

        mean = tf.zeros_like(corrected)
        for replica in range(n):  # one by one, for the same order of additions everywhere
            mean = _scatter(
                tf.tensor_scatter_nd_add, mean, all_indices[replica], all_values[replica] / n
            )
        sent = tf.zeros_like(values)
        residual = _scatter(tf.tensor_scatter_nd_update, corrected, indices, sent)
        new_state = {**state, "residuals": packing.unpack(residual, compressed)}
        if self.momentum is not None:
            velocity = _scatter(tf.tensor_scatter_nd_update, velocity, indices, sent)
            new_state["velocities"] = packing.unpack(velocity, compressed)
        finite = packing.all_finite([all_values]) & rest_finite
        return packing.unpack(mean, compressed), rest, new_state, finite

    def _after_mean_of_rest(self, state, means):
        if self.momentum is None or not means:
            return means, state
        # Momentum is linear: that of the mean is the mean of everyone's.
        pairs = zip(state["plain_velocities"], means)
        velocities = [self.momentum * velocity + mean for velocity, mean in pairs]
        return velocities, {**state, "plain_velocities": velocities}

    def _largest(self, vector, tensors):
        """The places in `vector` of each tensor's largest elements, as int32."""
        sizes = packing.sizes_of(tensors)
        parts = tf.split(vector, sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        places = [
            tf.math.top_k(part, self._number_sent(size), sorted=False).indices + int(start)
            for part, size, start in zip(parts, sizes, starts)
        ]
        return tf.concat(places, 0)

    def _number_sent(self, size):
        return max(1, round(self.ratio * size))

    def _compressed_bytes(self, shapes, num_replicas, dtype_bytes):
        sent = sum(self._number_sent(math.prod(shape)) for shape in shapes)
        return traffic.all_gather_bytes(sent * (dtype_bytes + _INDEX_BYTES), num_replicas)


def _gather(values, indices, communicator):
    """Everyone's values and indices, each with a row a replica, in one message."""
    size, words = values.shape[0], values.dtype.size // _INDEX_BYTES
    bits = tf.reshape(tf.bitcast(values, tf.int32), [size * words])
    (gathered,) = communicator.all_gather([tf.concat([bits, indices], 0)])
    gathered = tf.reshape(gathered, [communicator.num_replicas, (words + 1) * size])
    bits, indices = tf.split(gathered, [words * size, size], 1)
    bits = tf.reshape(bits, [-1, size, words] if words > 1 else [-1, size])
    return tf.bitcast(bits, values.dtype), indices


def _scatter(operation, vector, indices, values):
    return operation(vector, indices[:, None], values)
