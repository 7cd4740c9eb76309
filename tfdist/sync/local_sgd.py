"""Local SGD: replicas train by themselves, and average their models now and then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdist.arguments import integer
from tfdist.sync.algorithm import (
    Algorithm,
    all_reduce_bytes,
    assign_weighted_mean,
    new_variable,
    weighted_mean,
)

if TYPE_CHECKING:
    from tfdist.sync.protocol import Communicator


class LocalSGD(Algorithm):
    """Averages the models of all replicas every `period` steps.

    Replica r takes steps of its own optimizer, x_r <- x_r - u(g_r). After each H of
    them all replicas go on from the average

        x = sum_r (n_r / n) x_r

    where n_r is how many examples r has seen since the last average, and n their sum:
    for batches of one size the plain mean of the paper, and for SGD with H = 1
    synchronous SGD whatever the batches. Optimizers' momenta stay each replica's own. A
    replica without examples (a short last batch) takes its step with the gradient 0.

    During the first `warmup_steps` steps gradients are averaged, as in synchronous
    SGD; what follows is then post-local SGD.

    With slow momentum beta > 0 and slow learning rate alpha, a is the model that the
    last average led to, and

        v <- beta v + (a - x),    a <- a - alpha v,    x_r <- a

    which is the paper's for a constant inner learning rate gamma, with v = gamma u.

    Args:
        period: int, H.
        warmup_steps: int.
        slow_momentum: float in [0, 1), beta.
        slow_learning_rate: float, alpha.

    References:
        Stich, 1805.09767; Lin et al., 1808.07217 (post-local SGD);
        Wang et al., 1910.00643 (slow momentum).
    """

    def __init__(
        self,
        period: int,
        warmup_steps: int = 0,
        slow_momentum: float = 0.0,
        slow_learning_rate: float = 1.0,
    ) -> None:
        self.period = integer("period", period, least=1)
        self.warmup_steps = integer("warmup_steps", warmup_steps, least=0)
        if not 0 <= slow_momentum < 1:
            raise ValueError(f"slow_momentum={slow_momentum!r}: expected a float in [0, 1).")
        if not slow_learning_rate > 0:
            raise ValueError(f"slow_learning_rate={slow_learning_rate!r}: expected more than 0.")
        self.slow_momentum, self.slow_learning_rate = slow_momentum, slow_learning_rate

    @property
    def reduces_gradients(self) -> bool:  # type: ignore[override]
        return self.warmup_steps > 0

    @property
    def _slow(self):
        return self.slow_momentum > 0 or self.slow_learning_rate != 1

    def init(self, variables: Sequence[tf.Variable]) -> dict[str, Any]:
        state = super().init(variables)
        state["examples"] = [new_variable(tf.zeros([], tf.float64))]
        if self._slow:
            state["anchors"] = [new_variable(tf.zeros(v.shape, v.dtype)) for v in variables]
            state["momenta"] = [new_variable(tf.zeros(v.shape, v.dtype)) for v in variables]
        return state

    def start(self, state: dict[str, Any], variables: Sequence[tf.Variable]) -> None:
        for anchor, variable in zip(state.get("anchors", ()), variables):
            anchor.assign(tf.convert_to_tensor(variable))

    def reduce_gradients(
        self, state: dict[str, Any], gradients: list[tf.Tensor], communicator: Communicator
    ) -> list[tf.Tensor]:
        if not self.warmup_steps:
            return gradients

        def mean():
            return weighted_mean(gradients, communicator.examples, communicator.all_reduce)

        warming_up = state["step"][0] < self.warmup_steps
        return tf.cond(warming_up, mean, lambda: [tf.identity(g) for g in gradients])

    def after_update(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> tf.Tensor:
        step = state["step"][0].assign_add(1)
        examples = state["examples"][0]
        examples.assign_add(tf.cast(communicator.examples, tf.float64))

        def average():
            self.average(state, variables, communicator)
            if self._slow:
                self._move_slowly(state, variables)
            examples.assign(0)
            return True

        def warm_up():
            # Gradients were equal: so are the variables.
            self.start(state, variables)
            examples.assign(0)
            return True

        local_steps = step - self.warmup_steps
        due = (local_steps > 0) & (local_steps % self.period == 0)
        if not self.warmup_steps:
            return tf.cond(due, average, lambda: False)
        return tf.cond(local_steps <= 0, warm_up, lambda: tf.cond(due, average, lambda: False))

    def _move_slowly(self, state, variables):
        for anchor, momentum, variable in zip(state["anchors"], state["momenta"], variables):
            new = self.slow_momentum * momentum + anchor - variable
            momentum.assign(new)
            variable.assign(anchor - self.slow_learning_rate * new)
            anchor.assign(tf.convert_to_tensor(variable))  # within its constraint

    def average(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> None:
        assign_weighted_mean(variables, state["examples"][0], communicator)

    def agrees_at(self, step: int) -> bool:
        return step <= self.warmup_steps or (step - self.warmup_steps) % self.period == 0

    def bytes_per_step(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> float:
        return all_reduce_bytes(shapes, num_replicas, dtype_bytes) / self.period

    def get_config(self) -> dict[str, Any]:
        return {
            "period": self.period,
            "warmup_steps": self.warmup_steps,
            "slow_momentum": self.slow_momentum,
            "slow_learning_rate": self.slow_learning_rate,
        }
