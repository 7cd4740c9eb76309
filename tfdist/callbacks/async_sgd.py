"""How far asynchronous workers may drift apart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from tfdist import compat
from tfdist.arguments import integer
from tfdist.compat import trainer as compat_trainer
from tfdist.sync.staleness import Asynchrony


class AsyncSGD(keras.callbacks.Callback):
    """Bounds and scales the staleness of asynchronous training, and shows it.

    The staleness of a step is the number of updates by other steps between its reading
    the weights and its own update. Without this callback steps are unbounded, as with
    `max_staleness=None`.

    It configures the coordinator of a `tfdist.ParameterServerStrategy`; there is no
    reduction inside a step. The logs of an epoch get, besides `staleness_mean` and
    `staleness_max`, a histogram: the number of steps by staleness, `staleness_0`,
    `staleness_1`, `staleness_2_3`, `staleness_4_7`, `staleness_8_15` and
    `staleness_16_or_more`.

    Example:

    ```python
    strategy = tfdist.ParameterServerStrategy()
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(10)])
        model.compile("adam", "mse")
    model.fit(x, y, callbacks=[tfdist.callbacks.AsyncSGD(max_staleness=4)])
    ```

    Args:
        max_staleness: int of at least 0, the bound (stale synchronous parallel); with 0
            one step runs at a time. None for no bound.
        staleness_scaling: bool, whether a step's learning rate is divided by
            max(1, its staleness).

    Attributes:
        histogram: dict of the number of steps by staleness, of the last `fit`.

    Raises:
        ValueError: `max_staleness` is neither None nor an int of at least 0; at `fit`, the
            model was not made under a `ParameterServerStrategy`.

    References:
        Ho et al., More effective distributed ML via a stale synchronous parallel
        parameter server, NIPS 2013; Zhang et al., Staleness-aware async-SGD, 1511.05950.
    """

    def __init__(self, max_staleness: int | None = None, staleness_scaling: bool = False) -> None:
        super().__init__()
        meaning = "the largest number of updates between a step's reading and its own"
        self.max_staleness = integer(
            "max_staleness", max_staleness, least=0, meaning=meaning, or_none=True
        )
        self.staleness_scaling = bool(staleness_scaling)
        self.histogram: dict[int, int] = {}
        compat.install()

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with, as JSON values."""
        return {
            "max_staleness": self.max_staleness,
            "staleness_scaling": self.staleness_scaling,
        }

    @contextlib.contextmanager
    def around_fit(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[None]:
        """Steers the coordinator around the whole of `fit`; called by `tfdist.strategies.checks`.

        Raises:
            ValueError: the model was not made under a `ParameterServerStrategy`.
        """
        strategy = compat_trainer.strategy_of(model)
        if strategy is None or not strategy.is_asynchronous:
            raise ValueError(
                "`AsyncSGD` needs a `tfdist.ParameterServerStrategy`; the model "
                f"was made under a {type(model.distribute_strategy).__name__}. Make it in the "
                "scope of one (`tfdist run --ps 1` starts it), or remove the callback."
            )
        self.histogram = {}
        asynchrony = Asynchrony(self.max_staleness, self.staleness_scaling, self.histogram)
        with strategy.steering(asynchrony):
            yield
