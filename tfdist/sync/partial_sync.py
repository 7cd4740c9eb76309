"""Partial synchronisation: each step, replicas average gradients in small groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
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
    import keras

    from tfdist.sync.protocol import Communicator


class PartialSync(Algorithm):
    """Averages gradients within groups, and all models now and then.

    At step t the replicas are dealt into groups; replica r of group G applies

        g = sum_{s in G} (b_s / b_G) g_s

    with b_s the examples of s in this step and b_G their sum. Every `resync_every`
    steps all replicas go on from the average of their models, weighed by the examples
    that each has seen since the last one. Which groups meet at step t is a table, the
    same on all replicas, in which every pair meets; with one group of all it is
    synchronous SGD.

    What it saves: a replica sends 2 (g-1) / g of the gradients instead of 2 (N-1) / N,
    and waits for the g-1 others of its group alone. What it does not save: a slow
    worker still holds up its own group, and, at the latest in the next resync, all.
    Groups formed by who is ready first (partial reduce, SIGMOD '21) are not offered:
    the members of a TensorFlow process group must be known to all of them before the
    collective begins, so that someone would have to be asked each step; and which
    groups met would depend on time, so that no run could be repeated or resumed
    exactly.

    Args:
        group_size: int of at least 2. If it does not divide the number of replicas, one
            group of each step is smaller.
        resync_every: int.
        seed: int of at least 0, of the table of groups; the same on all workers.
    """

    def __init__(self, group_size: int, resync_every: int, seed: int = 0) -> None:
        self.group_size = integer("group_size", group_size, least=2)
        self.resync_every = integer("resync_every", resync_every, least=1)
        # None would be another table on each worker.
        self.seed = integer("seed", seed, least=0)

    def check(
        self,
        num_replicas: int,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[tf.Variable],
    ) -> None:
        if self.group_size > num_replicas:
            raise ValueError(
                f"group_size={self.group_size}: the strategy has {num_replicas} replicas; "
                f"expected an int from 2 to {num_replicas}."
            )

    def init(self, variables: Sequence[tf.Variable]) -> dict[str, Any]:
        return {
            **super().init(variables),
            "examples": [new_variable(tf.zeros([], tf.float64))],
        }

    def reduce_gradients(
        self, state: dict[str, Any], gradients: list[tf.Tensor], communicator: Communicator
    ) -> list[tf.Tensor]:
        table = groups_table(communicator.num_replicas, self.group_size, self.seed)
        groups = tf.constant(table)[state["step"][0] % len(table)]
        return weighted_mean(
            gradients,
            communicator.examples,
            lambda values: communicator.group_sum(values, groups),
        )

    def after_update(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> tf.Tensor:
        step = state["step"][0].assign_add(1)
        examples = state["examples"][0]
        examples.assign_add(tf.cast(communicator.examples, tf.float64))

        def resync():
            self.average(state, variables, communicator)
            examples.assign(0)
            return True

        return tf.cond(step % self.resync_every == 0, resync, lambda: False)

    def average(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> None:
        assign_weighted_mean(variables, state["examples"][0], communicator)

    def agrees_at(self, step: int) -> bool:
        return step % self.resync_every == 0

    def bytes_per_step(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> float:
        # Each step has the same sizes of groups.
        groups = groups_table(num_replicas, self.group_size, self.seed)[0]
        sent = sum(
            size * all_reduce_bytes(shapes, size, dtype_bytes) for size in np.bincount(groups)
        )
        resync = all_reduce_bytes(shapes, num_replicas, dtype_bytes)
        return sent / num_replicas + resync / self.resync_every

    def get_config(self) -> dict[str, Any]:
        return {
            "group_size": self.group_size,
            "resync_every": self.resync_every,
            "seed": self.seed,
        }


def groups_table(num_replicas, group_size, seed=0):
    """Which replicas meet at each step, until every pair has met.

    Args:
        num_replicas: int, N.
        group_size: int.
        seed: int.

    Returns:
        An int32 array of shape `(rounds, num_replicas)`: the number of each replica's
        group in each round.
    """
    rng = np.random.default_rng(seed)
    met = np.zeros((num_replicas, num_replicas), int)
    everyone = set(itertools.combinations(range(num_replicas), 2))
    rounds = []
    while not rounds or any(met[pair] == 0 for pair in everyone):
        groups = np.zeros(num_replicas, np.int32)
        left = list(rng.permutation(num_replicas))
        # Who has met the fewest others chooses first.
        left.sort(key=lambda replica: np.count_nonzero(met[replica]))
        number = 0
        while left:
            group = [left.pop(0)]
            while len(group) < group_size and left:
                # The one that the group has met least.
                new = min(left, key=lambda other: (met[group, other] > 0).sum())
                left.remove(new)
                group.append(new)
            groups[group] = number
            for a, b in itertools.permutations(group, 2):
                met[a, b] += 1
            number += 1
        rounds.append(groups)
    return np.stack(rounds)
