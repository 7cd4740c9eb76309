"""What the gradient-sync callbacks have in common."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

from tfdist import compat
from tfdist.compat import trainer as compat_trainer
from tfdist.compat import training_state
from tfdist.strategies import checks
from tfdist.strategies.gradient_sync import GradientSync

if TYPE_CHECKING:
    from tfdist.sync.algorithm import Algorithm


class GradientSyncCallback(keras.callbacks.Callback):
    """Puts an algorithm of `tfdist.sync` in the place of plain all-reduce, for one `fit`.

    Adds `sync_bytes` and `sync_seconds` to the logs: what this worker has sent to
    others a step (of several replicas on a worker, what the first of them has), and the
    seconds of a step that went into it, waiting included; means since the epoch began.
    Between workers with connections of their own the bytes are counted where they are
    sent, framing and the metrics' message included; elsewhere they are the payload, by
    the formula of a ring.

    Limit: between synchronisations a batch's logs are each worker's own. A callback that
    stops `fit` in the middle of an epoch by them may stop one worker alone.

    Args:
        algorithm: a `tfdist.sync.algorithm.Algorithm`.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.algorithm = algorithm
        self._sync: GradientSync | None = None
        compat.install()

    def get_config(self) -> dict[str, Any]:
        """The arguments that it was made with, as JSON values."""
        return self.algorithm.get_config()

    def describe(self) -> str:
        """The call that makes one like it, as text; the same in each process."""
        return _call(type(self).__name__, self.get_config())

    @contextlib.contextmanager
    def around_fit(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[None]:
        """Installs the algorithm around the whole of `fit`; called by `tfdist.strategies.checks`.

        Raises:
            ValueError: there is another gradient-sync callback, or a strategy that it
                does not know.
        """
        others = [
            other
            for other in checks.callbacks_of(arguments)
            if isinstance(other, GradientSyncCallback) and other is not self
        ]
        if others:
            names = ", ".join(type(one).__name__ for one in (self, *others))
            raise ValueError(
                f"`fit` received {1 + len(others)} gradient-sync callbacks ({names}): replicas "
                "can be synchronised in one way only. Expected one of them."
            )
        strategy = self._strategy_of(model)
        if strategy is None:
            yield
            return
        # Workers with other settings would average at other steps, and not notice.
        strategy.next_call["gradient synchronisation"] = self.describe()
        # Keras makes the function of the steps once, so it must be made again.
        model.train_function = None
        self._sync = sync = GradientSync(strategy, model, self.algorithm)
        with strategy.synchronizing_gradients(model, sync):
            try:
                yield
                sync.finish()
            except BaseException:
                sync.abandon()
                raise
            finally:
                model.train_function = None
                self._sync = None

    def _strategy_of(self, model):
        name = type(self).__name__
        strategy = compat_trainer.strategy_of(model)
        if strategy is not None and strategy.is_asynchronous:
            raise ValueError(
                f"`{name}` is a way in which replicas agree step by step; under a "
                f"{type(strategy).__name__} they do not. Use `tfdist.callbacks.AsyncSGD` there, or "
                "another strategy."
            )
        if strategy is None and not training_state.is_single_device(model.distribute_strategy):
            raise checks.not_trained_by_tfdist(name, model.distribute_strategy)
        if strategy is None or strategy.num_replicas_in_sync == 1:
            where = "without a strategy" if strategy is None else "on a single replica"
            warnings.warn(
                f"`{name}`: the model was made {where}, which has nothing to synchronise; "
                "training is plain: `fit` does what it does without the callback.",
                stacklevel=2,
            )
            return None
        return strategy

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._sync is not None:
            self._sync.prepare()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._sync is not None:
            self._sync.begin_epoch()

    def get_state(self) -> dict[str, Any] | None:
        """What a checkpoint holds of the epoch that goes on."""
        return self._sync.get_state() if self._sync is not None else None

    def set_state(self, state: dict[str, Any] | None) -> None:
        if self._sync is not None and state is not None:
            self._sync.set_state(state)


def _call(name, arguments):
    # Keras numbers the names of a process' optimizers: they say nothing of it.
    given = [(k, v) for k, v in arguments.items() if v is not None and k != "name"]
    return f"{name}({', '.join(f'{key}={_text(value)}' for key, value in given)})"


def _text(value):
    """A JSON value as text; what Keras has serialized as a call."""
    if isinstance(value, dict) and {"class_name", "config"} <= value.keys():
        return _call(value["class_name"], value["config"])
    if isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[1], dict):
        return _call(*value)  # a compressor
    return f"{value:.6g}" if isinstance(value, float) else repr(value)
