"""Gradients as products of two thin matrices on the wire, with error feedback."""

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfdist.arguments import integer
from tfdist.gradient_compression import traffic
from tfdist.gradient_compression.compressor import Compressor, State, register
from tfdist.gradient_compression.orthogonalization import Segments


@register
class PowerSGD(Compressor):
    """Sends a low-rank approximation, found by one power iteration a step.

    A gradient of n x m plus the residual of the steps before is M on each replica; one
    of more dimensions is cut in two where n + m is least, which for convolutions is in
    front of the last. With Q of the step before,

        P = mean of M Q;  P <- orthonormal columns of P;  Q = mean of M' P;  mean = P Q'

    and the residual is M - P (M' P)', with the replica's own M. Being linear, it needs
    no gather: two all-reduces of rank (n + m) elements, whatever the number of replicas.
    What is not compressed travels with the P.

    Tensors for which rank (n + m) is not less than n m are not compressed, so that full
    rank is no compression.

    Example:

    >>> import tfdist
    >>> compressor = tfdist.gradient_compression.PowerSGD(rank=4)
    >>> compressor.bytes_per_step([(1024, 1024)], num_replicas=2)
    32768

    Args:
        rank: int, columns of P and Q.
        warm_start: bool, begin with the Q of the step before; False: with random
            numbers in every step.
        seed: int, of the first Q, or of all.
        min_elements: int, tensors with fewer elements are not compressed.

    Reference:
        PowerSGD (arXiv 1905.13727), algorithms 1 and 2.
    """

    def __init__(
        self, rank: int = 2, warm_start: bool = True, seed: int = 0, min_elements: int = 1024
    ) -> None:
        super().__init__(min_elements)
        self.rank, self.warm_start = integer("rank", rank, least=1), bool(warm_start)
        self.seed = integer("seed", seed)

    def get_config(self) -> dict[str, Any]:
        own = {"rank": self.rank, "warm_start": self.warm_start, "seed": self.seed}
        return {**own, **super().get_config()}

    def init(self, variables: Sequence[Any]) -> State:
        state = super().init(variables)
        if "q" in state:
            rows, dtypes = [q.shape[0] for q in state["q"]], [q.dtype for q in state["q"]]
            parts = tf.split(self._random_q(sum(rows), 0, tf.float64), rows)
            state["q"] = [tf.cast(part, dtype) for part, dtype in zip(parts, dtypes)]
        return state

    def _compresses(self, shape):
        if not super()._compresses(shape):
            return False
        n, m = _matrix_shape(shape)
        return self.rank * (n + m) < n * m

    def _state_specs(self, gradients):
        residuals = self._specs_of_compressed(gradients)
        if not residuals:
            return {}
        if not self.warm_start:
            return {"residuals": residuals, "step": [tf.TensorSpec([], tf.int64)]}
        q = [
            tf.TensorSpec([_matrix_shape(spec.shape)[1], self.rank], spec.dtype)
            for spec in residuals
        ]
        return {"residuals": residuals, "q": q}

    def _exchange(self, state, compressed, rest, communicator):
        matrices = [
            tf.reshape(g + e, _matrix_shape(g.shape))
            for g, e in zip(compressed, state["residuals"])
        ]
        heights = [matrix.shape[0] for matrix in matrices]
        widths = [matrix.shape[1] for matrix in matrices]
        q = self._begin(state, widths, matrices[0].dtype)
        p = tf.concat([matrix @ each for matrix, each in zip(matrices, q)], 0)
        (p, *rest), p_finite = self._plain_mean([p, *rest], communicator)
        # Columns of what is not finite are not orthogonal, and nobody will use them.
        p = Segments(heights).orthonormal(tf.where(p_finite, p, tf.zeros_like(p)))
        p = tf.split(p, heights)
        own_q = [tf.matmul(each, p_, transpose_a=True) for each, p_ in zip(matrices, p)]
        (mean_q,), q_finite = self._plain_mean([tf.concat(own_q, 0)], communicator)

        means = _products(p, tf.split(mean_q, widths), compressed)
        residuals = [
            tf.reshape(matrix, g.shape) - approximation
            for matrix, g, approximation in zip(
                matrices, compressed, _products(p, own_q, compressed)
            )
        ]
        state = {"residuals": residuals, **self._end(state, mean_q, widths)}
        return means, rest, state, p_finite & q_finite

    def _begin(self, state, widths, dtype):
        if self.warm_start:
            return state["q"]
        return tf.split(self._random_q(sum(widths), state["step"][0], dtype), widths)

    def _end(self, state, mean_q, widths):
        if not self.warm_start:
            return {"step": [state["step"][0] + 1]}
        # Columns of length 1 span the same space, and M Q neither vanishes nor overflows.
        return {"q": tf.split(Segments(widths).unit(mean_q), widths)}

    def _random_q(self, rows, step, dtype):
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.stateless_normal([rows, self.rank], seed, dtype=dtype, alg="philox")

    def _compressed_bytes(self, shapes, num_replicas, dtype_bytes):
        size = sum(self.rank * sum(_matrix_shape(shape)) for shape in shapes)
        return traffic.all_reduce_bytes(size * dtype_bytes, num_replicas)


def _matrix_shape(shape):
    shape = tuple(shape)
    cuts = [(math.prod(shape[:at]), math.prod(shape[at:])) for at in range(1, len(shape))]
    return min(reversed(cuts), key=sum)


def _products(p, q, like):
    """P Q' of each matrix, in the shapes of the gradients."""
    return [
        tf.reshape(tf.matmul(p_, q_, transpose_b=True), each.shape)
        for p_, q_, each in zip(p, q, like)
    ]
