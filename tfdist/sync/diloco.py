"""DiLoCo: local training, and an outer optimizer that steps on what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.compat.optimizer import reduced_already
from tfdist.sync.algorithm import (
    Algorithm,
    all_reduce_bytes,
    assign_weighted_mean,
    new_variable,
    weighted_mean,
)
from tfdist.sync.sync_sgd import compress, compressor_state, config_of

if TYPE_CHECKING:
    from tfdist.gradient_compression.compressor import Compressor
    from tfdist.sync.protocol import Communicator

# Weighs replicas alike where none has seen an example since the last synchronisation.
_TINY = 1e-9


class DiLoCo(Algorithm):
    """Every `period` steps an outer optimizer steps from the last common model.

    Replica r takes H steps of its own optimizer from the common model a to x_r. Then

        d = sum_r (n_r / n) (a - x_r),    a <- outer step of a with the gradient d,
        x_r <- a

    where n_r is how many examples r has seen in these steps, and n their sum (for
    batches of one size: the plain mean of the paper). An outer SGD of rate 1 is local
    SGD; Nesterov momentum is the paper's.

    With `fragments` = P > 1 the variables are dealt into P parts of like size, each of
    which does so every H steps, one part every H / P steps (streaming DiLoCo): the
    peak of what is sent falls by P, and the mean is the same. Unlike the paper's,
    replicas wait for the exchange: it does not overlap with the following steps.

    Args:
        period: int, H.
        outer_optimizer: a Keras optimizer, which is copied; None for SGD with learning
            rate 0.7 and Nesterov momentum 0.9.
        fragments: int, P, at most `period`.
        compressor: one of `tfdist.gradient_compression` for d, or None.

    References:
        Douillard et al., 2311.08105; streaming: Douillard et al., 2501.18512.
    """

    reduces_gradients = False

    def __init__(
        self,
        period: int,
        outer_optimizer: keras.optimizers.Optimizer | None = None,
        fragments: int = 1,
        compressor: Compressor | None = None,
    ) -> None:
        self.period = integer("period", period, least=1)
        self.fragments = integer("fragments", fragments, least=1)
        if self.fragments > self.period:
            raise ValueError(
                f"fragments={fragments} with period={period}: expected at most one fragment a "
                "step; take fewer fragments or a longer period."
            )
        if outer_optimizer is not None and not isinstance(
            outer_optimizer, keras.optimizers.Optimizer
        ):
            raise ValueError(
                f"outer_optimizer={outer_optimizer!r}: expected a Keras optimizer, such as "
                "keras.optimizers.SGD(0.7, momentum=0.9, nesterov=True), or None for that one."
            )
        self.outer_optimizer = outer_optimizer or keras.optimizers.SGD(
            0.7, momentum=0.9, nesterov=True
        )
        self.compressor = compressor

    def check(
        self,
        num_replicas: int,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[tf.Variable],
    ) -> None:
        if self.fragments > len(variables):
            raise ValueError(
                f"fragments={self.fragments}: the model has {len(variables)} trainable "
                "variables; expected at most one fragment for each of them."
            )
        if self.compressor is not None:
            self.compressor.check(self.outer_optimizer, variables)

    def init(self, variables: Sequence[tf.Variable]) -> dict[str, Any]:
        anchors = [
            keras.Variable(tf.zeros(v.shape, v.dtype), name=f"anchor_{i}", aggregation="none")
            for i, v in enumerate(variables)
        ]
        optimizers, compressors = [], []
        for part in _parts(variables, self.fragments):
            # One each: its count of steps is that of its fragment.
            optimizer = type(self.outer_optimizer).from_config(self.outer_optimizer.get_config())
            optimizer.build([anchors[i] for i in part])
            optimizers.append(optimizer)
            compressors.append(compressor_state(self.compressor, [variables[i] for i in part]))
        return {
            **super().init(variables),
            "anchors": anchors,
            "examples": [new_variable(tf.zeros([], tf.float64)) for _ in range(self.fragments)],
            "fragments' compressors": compressors,
            "outer optimizers": optimizers,
        }

    def start(self, state: dict[str, Any], variables: Sequence[tf.Variable]) -> None:
        for anchor, variable in zip(state["anchors"], variables):
            anchor.value.assign(tf.convert_to_tensor(variable))

    def after_update(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> tf.Tensor:
        step = state["step"][0].assign_add(1)
        for examples in state["examples"]:
            examples.assign_add(tf.cast(communicator.examples, tf.float64))
        synchronized = tf.constant(False)
        for place in range(self.fragments):

            def exchange(place=place):
                self._exchange(place, state, variables, communicator)
                return True

            offset = self.period * (place + 1) // self.fragments % self.period
            done = tf.cond(step % self.period == offset, exchange, lambda: False)
            synchronized = done if place == self.fragments - 1 else synchronized
        return synchronized

    def _exchange(self, place, state, variables, communicator):
        part = _parts(variables, self.fragments)[place]
        examples = state["examples"][place]
        anchors = [state["anchors"][i] for i in part]
        deltas = [anchor.value - variables[i] for anchor, i in zip(anchors, part)]
        if self.compressor is None:
            mean = weighted_mean(deltas, examples, communicator.all_reduce)
        else:
            (total,) = communicator.all_reduce([tf.convert_to_tensor(examples)])
            share = communicator.num_replicas * tf.math.divide_no_nan(examples, total)
            shares = [delta * tf.cast(share, delta.dtype) for delta in deltas]
            kept = state["fragments' compressors"][place]
            mean = compress(self.compressor, kept, shares, communicator)
        with reduced_already():
            state["outer optimizers"][place].apply(mean, anchors)
        for anchor, i in zip(anchors, part):
            variables[i].assign(tf.convert_to_tensor(anchor.value))
            anchor.value.assign(tf.convert_to_tensor(variables[i]))  # within its constraint
        examples.assign(0)

    def average(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> None:
        for part, examples in zip(_parts(variables, self.fragments), state["examples"]):
            assign_weighted_mean([variables[i] for i in part], examples + _TINY, communicator)

    def agrees_at(self, step: int) -> bool:
        return step == 0 or (self.fragments == 1 and step % self.period == 0)

    def bytes_per_step(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> float:
        if self.compressor is None:
            return all_reduce_bytes(shapes, num_replicas, dtype_bytes) / self.period
        sent = 0
        for part in _parts([tf.TensorShape(shape) for shape in shapes], self.fragments):
            of = [shapes[i] for i in part]
            sent += self.compressor.bytes_per_step(of, num_replicas, dtype_bytes)
        return sent / self.period

    def get_config(self) -> dict[str, Any]:
        return {
            "period": self.period,
            "fragments": self.fragments,
            "outer_optimizer": keras.saving.serialize_keras_object(self.outer_optimizer),
            "compressor": config_of(self.compressor),
        }


def _parts(variables, count):
    """Deals indices of variables (or shapes) into `count` runs of like numbers of elements."""
    shapes = [getattr(variable, "shape", variable) for variable in variables]
    sizes = [shape.num_elements() for shape in shapes]
    parts, done, total = [[] for _ in range(count)], 0, sum(sizes)
    place = 0
    for index, size in enumerate(sizes):
        left = len(sizes) - index
        full = parts[place] and done + size / 2 > total * (place + 1) / count
        if place + 1 < count and (full or left <= count - place - 1) and parts[place]:
            place += 1
        parts[place].append(index)
        done += size
    return parts
