"""The learning rate of a batch that is as many times larger as there are replicas."""

from __future__ import annotations

import math
from typing import Any, Self

import keras
import tensorflow as tf

from tfdist.arguments import integer

_RULES = {"linear": lambda replicas: float(replicas), "sqrt": lambda replicas: math.sqrt(replicas)}


@keras.saving.register_keras_serializable(package="tfdist")
class ScaledLearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Scales a learning rate, found on one replica, to the batches of many.

    With k replicas that each keep their batch, the global batch is k times larger:

    - `"linear"`: k times the rate, since k small steps become one (Goyal et al.);
    - `"sqrt"`: the square root of it, which keeps the variance of the step (Krizhevsky); the
      usual rule for Adam and similar optimizers.

    Large rates diverge at first, so the factor grows evenly from 1 during `warmup_steps`:

        rate(t) = base(t) (1 + (factor - 1) min(1, t / warmup_steps))

    Example:

    >>> import tfdist
    >>> rate = tfdist.tuning.ScaledLearningRate(0.1, warmup_steps=4, replicas=8)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 100)]
    [0.1, 0.45, 0.8, 0.8]

    In a strategy's scope it reads the number of replicas itself:

    ```python
    with strategy.scope():
        rate = tfdist.tuning.ScaledLearningRate(0.1, warmup_steps=500)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
    model.fit(x, y, batch_size=64 * strategy.num_replicas_in_sync)
    ```

    Args:
        base: float, or a `keras.optimizers.schedules.LearningRateSchedule` of the same steps.
        rule: `"linear"` or `"sqrt"`.
        warmup_steps: int; steps of the optimizer. 0: the whole factor at once.
        replicas: int; None: those of the strategy in whose scope it is made. A model that is
            loaded in another scope then has the rate of that one.

    Raises:
        ValueError: arguments out of range.

    Reference:

    - Goyal et al., 2017, "Accurate, large minibatch SGD" (1706.02677).
    - Krizhevsky, 2014, "One weird trick for parallelizing convolutional neural networks"
      (1404.5997).
    """

    def __init__(
        self,
        base: float | keras.optimizers.schedules.LearningRateSchedule,
        rule: str = "linear",
        warmup_steps: int = 0,
        replicas: int | None = None,
        name: str | None = None,
    ) -> None:
        if rule not in _RULES:
            raise ValueError(f"rule is {rule!r}; expected one of {', '.join(_RULES)}.")
        warmup_steps = integer("warmup_steps", warmup_steps, least=0)
        meaning = "of all workers (None: those of the strategy in scope)"
        replicas = integer("replicas", replicas, least=1, meaning=meaning, or_none=True)
        is_schedule = isinstance(base, keras.optimizers.schedules.LearningRateSchedule)
        if not is_schedule and not (isinstance(base, (int, float)) and base > 0):
            raise ValueError(f"base is {base!r}; expected a positive number or a schedule.")
        self.base, self.rule, self.warmup_steps, self.name = base, rule, warmup_steps, name
        self.replicas = replicas
        in_scope = tf.distribute.get_strategy().num_replicas_in_sync
        self.factor = _RULES[rule](in_scope if replicas is None else replicas)

    def __call__(self, step: int | tf.Tensor) -> tf.Tensor:
        base = self.base
        if isinstance(base, keras.optimizers.schedules.LearningRateSchedule):
            base = base(step)
        base = keras.ops.cast(base, "float32")
        if self.warmup_steps == 0:
            return base * self.factor
        done = keras.ops.cast(step, "float32") / self.warmup_steps
        return base * (1.0 + (self.factor - 1.0) * keras.ops.minimum(done, 1.0))

    def get_config(self) -> dict[str, Any]:
        base = self.base
        if isinstance(base, keras.optimizers.schedules.LearningRateSchedule):
            base = keras.saving.serialize_keras_object(base)
        return {
            "base": base,
            "rule": self.rule,
            "warmup_steps": self.warmup_steps,
            "replicas": self.replicas,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        if isinstance(config["base"], dict):
            config = {**config, "base": keras.saving.deserialize_keras_object(config["base"])}
        return cls(**config)
