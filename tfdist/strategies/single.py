"""No strategy, as others see it: one process, one replica, Keras' own steps."""

import contextlib
from typing import Any

from tfdist.compat import strategy as engine
from tfdist.strategies.base import KerasStrategy


class NoStrategy(KerasStrategy):
    """Answers what is asked of a strategy, for a model that was made without one of tfdist's."""

    is_tfdist = False
    num_replicas_in_sync = 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """A context that changes nothing."""
        return contextlib.nullcontext()


def answering(strategy: Any) -> KerasStrategy:
    """`strategy` if it is tfdist's, else a `NoStrategy`: what may be asked as `KerasStrategy`."""
    return strategy if engine.is_tfdist(strategy) else NoStrategy()
