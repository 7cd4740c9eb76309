"""The protocol of gradient synchronisation, and what its algorithms share.

An algorithm is called at two places of each training step, on each replica: with
the gradients in front of the optimizer, and with the variables behind it. Its
whole state is what `init` returned, one value a replica, which the caller keeps and
checkpoints; nothing of a training stays on the algorithm, so that one may serve two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from tfdist.sync.protocol import Communicator


class Algorithm:
    """How replicas agree. The methods are traced, but for `init`, `check` and `bytes_per_step`.

    Attributes:
        local: whether replicas hold different variables between synchronisations.
        reduces_gradients: whether `reduce_gradients` does anything; else it is not
            called, and sparse gradients stay sparse.
    """

    local = True
    reduces_gradients = True

    def check(
        self,
        num_replicas: int,
        optimizer: keras.optimizers.Optimizer,
        variables: Sequence[tf.Variable],
    ) -> None:
        """Raises ValueError where it cannot serve this training."""

    def init(self, variables: Sequence[tf.Variable]) -> dict[str, Any]:
        """The whole state, made in the active scope.

        Args:
            variables: list of the trainable `tf.Variable`s.

        Returns:
            A dict of variables, optimizers, and lists and dicts of them, as deep as it
            likes (see `variables_of`). The one variable in "step" counts steps.
        """
        return {"step": [new_variable(tf.zeros([], tf.int64))]}

    def start(self, state: dict[str, Any], variables: Sequence[tf.Variable]) -> None:
        """Called on each replica in front of the first step, when all replicas are equal."""

    def reduce_gradients(
        self, state: dict[str, Any], gradients: list[tf.Tensor], communicator: Communicator
    ) -> list[tf.Tensor]:
        """The gradients that this replica applies.

        Args:
            state: what `init` returned.
            gradients: list of tensors. Of a local algorithm: the mean over this
                replica's examples. Else this replica's contribution: the mean of all
                contributions is that over the examples of the global batch.
            communicator: a `tfdist.sync.protocol.Communicator`; its `examples` says how
                many examples this replica had.
        """
        return gradients

    def after_update(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> tf.Tensor:
        """What happens behind the optimizer.

        Returns:
            Scalar bool tensor: whether replicas have averaged at this step, so that
            the state of layers should be averaged, too.
        """
        state["step"][0].assign_add(1)
        return tf.constant(False)

    def average(
        self, state: dict[str, Any], variables: Sequence[tf.Variable], communicator: Communicator
    ) -> None:
        """Assigns `variables` the average model; changes no state.

        Called only where replicas may differ, see `agrees_at`.
        """

    def agrees_at(self, step: int) -> bool:
        """Whether replicas hold the same variables after `step` steps; a Python bool."""
        return not self.local

    def bytes_per_step(
        self, shapes: Sequence[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
    ) -> float:
        """Payload that a replica sends a step, averaged over steps and replicas.

        Args:
            shapes: list of shapes of the trainable variables.
            num_replicas: int.
            dtype_bytes: int, of an element.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """What it was made with, as JSON values."""
        raise NotImplementedError


def new_variable(value: tf.Tensor) -> tf.Variable:
    """A variable that each replica assigns for itself."""
    return tf.Variable(value, trainable=False, aggregation=tf.VariableAggregation.NONE)


def variables_of(state: Any) -> list[tf.Variable]:
    """The `tf.Variable`s of an algorithm's state; the same order in each process.

    Args:
        state: what `init` returned: `tf.Variable`s, Keras variables, built Keras
            optimizers, and lists and dicts of them.
    """
    if isinstance(state, dict):
        state = [state[name] for name in sorted(state)]
    if isinstance(state, keras.optimizers.Optimizer):
        state = state.variables
    if isinstance(state, (list, tuple)):
        return [variable for part in state for variable in variables_of(part)]
    return [state.value if isinstance(state, keras.Variable) else state]


def weighted_mean(
    values: Sequence[tf.Tensor],
    weight: tf.Tensor,
    sum_over_replicas: Callable[[list[tf.Tensor]], Sequence[tf.Tensor]],
) -> list[tf.Tensor]:
    """Means of each value over replicas; one message a dtype.

    Args:
        values: list of floating-point tensors.
        weight: scalar tensor, this replica's weight; if all are 0, the means are 0.
        sum_over_replicas: such as a communicator's `all_reduce`.
    """
    # A variable would be read by whoever sums, perhaps after it has changed.
    weight = tf.convert_to_tensor(weight)
    # Half precision holds neither the sums nor the numbers of examples.
    wide = [tf.cast(v, tf.float32) if v.dtype.size < 4 else v for v in values]
    dtypes = list(dict.fromkeys(value.dtype for value in wide))
    weights = [tf.cast(weight, dtype) for dtype in dtypes]
    of = dict(zip(dtypes, weights))
    # NaN times 0 is 0: a replica without examples.
    weighed = [tf.math.multiply_no_nan(value, of[value.dtype]) for value in wide]
    sums = sum_over_replicas([*weighed, *weights])
    total = dict(zip(dtypes, sums[len(values) :]))
    means = [tf.math.divide_no_nan(v, total[v.dtype]) for v in sums[: len(values)]]
    return [tf.cast(mean, value.dtype) for mean, value in zip(means, values)]


def assign_weighted_mean(
    variables: Sequence[tf.Variable], weight: tf.Tensor, communicator: Communicator
) -> None:
    """Assigns each variable its mean over replicas."""
    values = [tf.convert_to_tensor(variable) for variable in variables]
    for variable, mean in zip(variables, weighted_mean(values, weight, communicator.all_reduce)):
        variable.assign(mean)


def all_reduce_bytes(
    shapes: Iterable[Sequence[int]], num_replicas: int, dtype_bytes: int = 4
) -> float:
    """What a replica sends in an all-reduce around a ring: 2 (N-1) / N of the data."""
    elements = sum(tf.TensorShape(shape).num_elements() for shape in shapes)
    return 2 * (num_replicas - 1) / num_replicas * elements * dtype_bytes
