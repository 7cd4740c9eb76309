"""Synchronous SGD: every step, all replicas apply the mean gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdist.arguments import integer
from tfdist.sync.algorithm import Algorithm, all_reduce_bytes, new_variable

if TYPE_CHECKING:
    import keras

    from tfdist.gradient_compression.compressor import Compressor
    from tfdist.sync.protocol import Communicator


class SyncSGD(Algorithm):
    """The mean of all replicas' gradients, exactly or through a compressor.

        g = 1/N sum_r C(g_r + e_r),    e_r <- g_r + e_r - C(g_r + e_r)

    where C is the compressor and e_r its error feedback, if it has any. The first
    `warmup_steps` steps are exact: early gradients change fast, and what error feedback
    brings late then comes at a bad time.

    Args:
        compressor: one of `tfdist.gradient_compression`, or None.
        warmup_steps: int.
    """

    local = False

    def __init__(self, compressor: Compressor | None = None, warmup_steps: int = 0) -> None:
        self.compressor = compressor
        self.warmup_steps = integer("warmup_steps", warmup_steps, least=0)

    @property
    def reduces_gradients(self) -> bool:  # type: ignore[override]
        return self.compressor is not None

    def check(
        self,
        num_replicas: int,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[tf.Variable],
    ) -> None:
        if self.compressor is not None:
            self.compressor.check(optimizer, variables)

    def init(self, variables: Sequence[tf.Variable]) -> dict[str, Any]:
        return {
            **super().init(variables),
            "compressor": compressor_state(self.compressor, variables),
        }

    def reduce_gradients(
        self, state: dict[str, Any], gradients: list[tf.Tensor], communicator: Communicator
    ) -> list[tf.Tensor]:
        def exact():
            sums = communicator.all_reduce(gradients)
            return [total / communicator.num_replicas for total in sums]

        def compressed():
            return compress(self.compressor, state["compressor"], gradients, communicator)

        if self.compressor is None:
            return exact()
        if not self.warmup_steps:
            return compressed()
        return tf.cond(state["step"][0] < self.warmup_steps, exact, compressed)

    def bytes_per_step(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> float:
        if self.compressor is None:
            return all_reduce_bytes(shapes, num_replicas, dtype_bytes)
        return self.compressor.bytes_per_step(shapes, num_replicas, dtype_bytes)

    def get_config(self) -> dict[str, Any]:
        return {"compressor": config_of(self.compressor), "warmup_steps": self.warmup_steps}


def compressor_state(
    compressor: Compressor | None, variables: Sequence[tf.Variable]
) -> dict[str, list[tf.Variable]]:
    """Dict of lists of variables: the state of a compressor of such variables, empty for None."""
    state = {} if compressor is None else compressor.init(variables)
    return {name: [new_variable(value) for value in values] for name, values in state.items()}


def compress(
    compressor: Compressor,
    state: dict[str, list[tf.Variable]],
    values: Sequence[tf.Tensor],
    communicator: Communicator,
) -> list[tf.Tensor]:
    """The mean of `values` over replicas; assigns `state`, which `compressor_state` returned."""
    before = {name: [v.read_value() for v in variables] for name, variables in state.items()}
    means, after = compressor.reduce(before, values, communicator)
    for name, variables in state.items():
        for variable, value in zip(variables, after[name]):
            variable.assign(value)
    return means


def config_of(compressor: Compressor | None) -> list[Any] | None:
    """A compressor's class and arguments, as JSON values; None for none."""
    return None if compressor is None else [type(compressor).__name__, compressor.get_config()]
