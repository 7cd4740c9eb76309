"""The callback that prunes while `fit` trains."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist import compat
from tfdist.compat import trainer as compat_trainer
from tfdist.compat import training_state
from tfdist.compat.layers import all_layers
from tfdist.compat.optimizer_slots import averages_of
from tfdist.model_compression.pruning.links import hold, in_front_of_updates
from tfdist.model_compression.pruning.masks import Masks, one_of
from tfdist.model_compression.pruning.on_servers import OnServers
from tfdist.model_compression.pruning.report import PruningReport
from tfdist.model_compression.pruning.rewinding import EarlyWeights
from tfdist.model_compression.pruning.weights import Skipped
from tfdist.strategies import checks
from tfdist.sync.after_update import chain_of, hold_layers


class Pruning(keras.callbacks.Callback):
    """Prunes the model that it was made for; see `tfdist.model_compression.prune`.

    It counts the steps of every `fit` that it is passed to, and changes the masks as its schedule
    says. The masks hold in each step of each `fit` of the model, also without it, and of a model
    that it is a part of, such as the student of Keras' `Distiller`, or that shares its layers.
    `Checkpoint` keeps them and
    the count.

    Under gradient-sync callbacks with local steps masks change at a synchronisation only, so that
    they are those of the average model, alike on all replicas.

    With parameter servers they change when no step is out, by criteria that need no gradients.
    """

    def __init__(
        self,
        model: keras.Model,
        make_masks: Callable[[], Masks],
        skipped: list[Skipped],
        settings: dict[str, Any],
        rewind_to: int | None = None,
    ) -> None:
        super().__init__()
        compat.install()
        strategy = compat_trainer.strategy_of(model)
        if strategy is None and not training_state.is_single_device(model.distribute_strategy):
            raise checks.not_trained_by_tfdist("Pruning", model.distribute_strategy)
        self._pruned = self._trained = model
        self._strategy, self._skipped = strategy, skipped
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            self._masks = make_masks()
        self._settings, self._early = settings, EarlyWeights(rewind_to)
        self._active = self._around = False
        self._fit = contextlib.ExitStack()
        self._servers = None
        if strategy is not None and strategy.is_asynchronous:
            if rewind_to is not None:
                raise ValueError(
                    f"rewind_to={rewind_to!r} with parameter servers, where no step ends for all "
                    "workers at once: expected another strategy."
                )
            self._servers = OnServers(strategy, model, self._masks)
            self._begin = self._servers.begin
            return
        on_all = strategy.run if strategy is not None else lambda function: function()
        self._begin = tf.function(lambda: on_all(self._begin_replica))
        hold(model, strategy, self._masks, self._behind_update)
        hold_layers(model, self._masks.held)

    def get_config(self) -> dict[str, Any]:
        """The settings, as JSON values."""
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self._settings.items()
        }

    def report(self) -> PruningReport:
        """What is masked by now, by kernel, and which layers were skipped, and why."""
        return PruningReport(self._masks.pruned(), list(self._skipped), self._pruned.count_params())

    def apply(self) -> None:
        """Prunes now what the schedule says of the time in front of the first step.

        So with `Constant(final=0.5)` a model is pruned without being trained, by what its weights
        are.

        Raises:
            ValueError: the criterion needs gradients.
        """
        if self._masks.begins_with_gradients:
            raise ValueError(
                f"`apply`: {type(self._settings['criterion']).__name__} scores weights by the "
                "gradients of training steps. Expected `fit` with this callback, or a criterion "
                'that needs none, as "magnitude".'
            )
        self._begin()

    def rewind(self) -> None:
        """Gives the weights that stay the values that they had behind step `rewind_to`.

        For lottery tickets: train and prune by one `fit`, rewind, and train again. The masks
        stay, and so does the count of steps; all other weights of the model, and the whole
        state of the optimizer with its count and learning rate, are what they were, too.

        Example:

        >>> import keras, numpy, tfdist
        >>> compression = tfdist.model_compression
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
        >>> model.compile("sgd", "mse")
        >>> x, y = numpy.ones((64, 8)), numpy.ones((64, 10))
        >>> schedule = compression.Constant(final=0.75, begin=8)
        >>> pruning = compression.prune(model, schedule=schedule, rewind_to=2)
        >>> history = model.fit(x, y, 16, epochs=2, verbose=0, callbacks=[pruning])
        >>> pruning.rewind()
        >>> int(model.optimizer.iterations.numpy()), int((model.get_weights()[0] == 0).sum())
        (2, 60)

        Raises:
            ValueError: there are no such values.

        References:
            Frankle and Carbin, The lottery ticket hypothesis, 1803.03635; Frankle et al., Linear
            mode connectivity and the lottery ticket hypothesis, 1912.05671.
        """
        self._early.restore(self._of_training())
        self._begin()

    @contextlib.contextmanager
    def around_fit(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[None]:
        """Lets the schedule run for the whole of a `fit`; called by `tfdist.strategies.checks`.

        Raises:
            ValueError: it is the `fit` of another model.
        """
        if all(layer is not self._pruned for layer in all_layers(model)):
            raise ValueError(
                f"This Pruning was made for the model {self._pruned.name!r}, and `fit` is one of "
                f"{model.name!r}: expected the callback that `prune` has made for it, or for a "
                "model inside of it."
            )
        if self._strategy is not None:
            self._strategy.next_call["pruning"] = str(self.get_config())
        self._around = True
        self._start(model)
        try:
            yield
        finally:
            self._stop(model)
            self._around = False

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._trained = model
        if not self._around:
            # In `model.fit(x, y, callbacks=[prune(model)])` Python looks `fit` up before `prune`
            # is called, and so may have found Keras' own, which does not call `around_fit`.
            self._start(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._servers is not None:
            self._servers.check(self._trained)
        self._check_local_methods()
        self._keep_early_weights()
        self._begin()  # what is due in front of the first step

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._servers is not None:
            self._servers.begin_epoch()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._servers is not None:
            self._servers.count(batch)
        self._keep_early_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if not self._around:
            self._stop(self.model)

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint holds: counts, masks (eight to a byte), what the criterion keeps."""
        if self._servers is not None:
            self._servers.save_count()
        values = [one_of(variable) for variable in self._masks.variables]
        behind = 2 + len(self._masks.masks)
        return {
            "counts": [int(value) for value in values[:2]],
            "masks": [np.packbits(value.reshape(-1)) for value in values[2:behind]],
            "criterion": values[behind:],
            "early": self._early.values,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        values: list[Any] = [np.int64(count) for count in state["counts"]]
        for mask, bits in zip(self._masks.masks, state["masks"]):
            count = mask.shape.num_elements()
            values.append(np.unpackbits(bits, count=count).astype(bool).reshape(mask.shape))
        values += state["criterion"]
        self._early.values = state["early"]
        for variable, value in zip(self._masks.variables, values):
            variable.assign(value)

    def _start(self, model):
        """A `fit` of `model` begins: its steps count, and show the criterion their gradients."""
        self._fit.close()  # of one that has raised
        # Keras makes the function of the steps once; it must be one that counts.
        model.train_function = None
        self._active = True
        self._masks.seen.clear()
        if self._masks.looks_at_gradients:
            self._fit.enter_context(in_front_of_updates(model, self._strategy, self._masks.look))

    def _stop(self, model):
        self._fit.close()
        model.train_function = None
        self._active = False

    def _keep_early_weights(self):
        if self._early.waits:
            self._early.keep(int(one_of(self._masks.step)), self._of_training())

    def _of_training(self):
        optimizer = self._trained.optimizer
        if not optimizer.built:
            with self._strategy.scope() if self._strategy else contextlib.nullcontext():
                optimizer.build(self._trained.trainable_variables)
        return [*self._pruned.weights, *optimizer.variables]

    def _check_local_methods(self):
        sync = self._strategy and self._strategy.gradient_sync_of(self._trained)
        if not sync or not sync.algorithm.local:
            return
        if self._early.waits:
            raise ValueError(
                f"rewind_to={self._early.step} under {type(sync.algorithm).__name__}: each replica "
                "has weights of its own behind that step. Expected gradients that are reduced in "
                "each step, or no `rewind_to`."
            )
        if self._masks.needs_gradients:
            raise ValueError(
                f"{type(self._settings['criterion']).__name__} scores weights by gradients, and "
                f"under {type(sync.algorithm).__name__} each replica has its own: expected a "
                'criterion that needs none, as "magnitude", or gradients that are reduced in each '
                "step."
            )

    def _behind_update(self, communicator, agreed):
        if self._active:
            self._masks.check_seen()
            self._masks.advance(tf.cast(agreed, tf.bool))
        self._hold()

    def _begin_replica(self):
        self._masks.begin()
        self._hold()

    def _hold(self):
        # At the end of `fit` Keras puts the averages in the place of the weights.
        trained = chain_of(self._pruned).trained or self._trained
        self._masks.hold(averages_of(getattr(trained, "optimizer", None)))
