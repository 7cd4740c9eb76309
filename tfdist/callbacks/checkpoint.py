"""Exact resume: after a crash, the same command goes on as if nothing had happened.

This adapter decides when to save and in which order things come back; the rooms
below it know how (`tfdist/checkpointing`).

Order. Callbacks run in the order of their list, and Keras appends `History` to it.
This one is put behind all of them, so that it sees their state after theirs has
changed, and gives it back after their `on_train_begin` has cleared it. In the
middle of an epoch variables come back once more at `on_epoch_begin`, since Keras
clears metrics in front of it and a scheduler may set the learning rate in it.

Limits: what is promised, and for which data, is in the docstring of `Checkpoint`.
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import keras

from tfdist import compat
from tfdist.arguments import integer
from tfdist.callbacks.gradient_sync import GradientSyncCallback
from tfdist.checkpointing import choice, data, python_state, variables
from tfdist.checkpointing.encoding import decode, encode
from tfdist.checkpointing.facts import facts_of
from tfdist.checkpointing.files import WorkerFiles, name_of
from tfdist.checkpointing.writing import write
from tfdist.compat import epoch_iterator, training_state
from tfdist.compat.strategy import is_tfdist
from tfdist.strategies import checks
from tfdist.strategies.single import answering


class Checkpoint(keras.callbacks.Callback):
    """Saves the training in `fit` so that the same command goes on after a crash.

    A checkpoint holds the model, its optimizers (those also that are attributes of
    a subclassed model), the loss scale, the state of seed generators, the place in
    the data and its shuffles, metrics, History, the global random states of Python
    and NumPy, and the state of `EarlyStopping`, `ReduceLROnPlateau`,
    `ModelCheckpoint` and of every callback with `get_state()` and
    `set_state(state)`. A training that was killed at any step and started again
    ends with the bits, of weights and of History, that it would have had, on the
    same type of machine and with `tf.config.experimental.enable_op_determinism()`.

    Promised for arrays, for a `PyDataset` whose batches depend on their index and
    its epoch, and for a `tf.data.Dataset` with seeds and a fixed order. Generators,
    unordered and unseeded pipelines are refused before any work. Not rewound:
    random operations of TensorFlow inside of the model that have no Keras
    `SeedGenerator`; a pipeline that is also read outside of `fit`, or for training
    and validation both.

    When `fit` has ended, the same call returns at once, with the same History and
    weights; with more epochs it goes on. A directory belongs to one training:
    other models, other batches, other numbers of workers and other versions are
    refused. Each worker writes a file of its own and reads no other's, so disks
    need not be shared. It works without a strategy, too.

    Example:

    >>> import keras, numpy, tempfile, tfdist
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> checkpoint = tfdist.callbacks.Checkpoint(tempfile.mkdtemp(), every_steps=2)
    >>> x, y = numpy.ones((8, 2)), numpy.ones((8, 1))
    >>> history = model.fit(x, y, epochs=3, verbose=0, callbacks=[checkpoint])
    >>> again = model.fit(x, y, epochs=3, verbose=0, callbacks=[checkpoint])
    >>> again.history == history.history
    True

    Args:
        directory: path of the checkpoints, the same on all workers.
        every_steps: save after every so many training steps (global batches), and
            at the end of each epoch. Defaults to the end of each epoch alone.
        max_to_keep: int of at least 2, how many are kept: if the newest is broken,
            the one before it is used.
        on_write_error: "warn": training goes on where a checkpoint cannot be
            written (a full disk), with the one before it kept; "stop": `fit` raises.

    Raises:
        ValueError: in `fit`, before any work: data that cannot be read again, a
            checkpoint of another model, number of workers or version.
        RuntimeError: in `fit`, before any work: no checkpoint is whole on all workers.
        OSError: a checkpoint could not be written, with `on_write_error="stop"`.
    """

    stands_outermost = True  # a gradient-sync callback has averaged when the end is saved

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every_steps: int | None = None,
        max_to_keep: int = 2,
        on_write_error: str = "warn",
    ) -> None:
        super().__init__()
        if on_write_error not in ("warn", "stop"):
            raise ValueError(f'on_write_error={on_write_error!r}: expected "warn" or "stop".')
        self.directory = directory
        self.every_steps = integer("every_steps", every_steps, least=1, or_none=True)
        meaning = "so that there is another one if the newest is broken"
        self.max_to_keep = integer("max_to_keep", max_to_keep, least=2, meaning=meaning)
        self.on_write_error = on_write_error
        self._arguments: Any = None  # of the `fit` that goes on
        compat.install()

    # -- around `fit` -----------------------------------------------------------

    @contextlib.contextmanager
    def around_fit(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[None]:
        """What happens before and after Keras' own `fit`; called by `tfdist.strategies.checks`.

        Args:
            model: the Keras model.
            arguments: dict of the arguments of `fit`; its callbacks are reordered.
        """
        self.set_model(model)
        self._arguments = arguments
        self._strategy = self._strategy_of(model)
        self._callbacks = self._come_last(arguments)
        self._facts = facts_of(self._strategy, _gradient_sync_of(self._callbacks))
        self._data_seeds = data.check(arguments)
        self._files = WorkerFiles(self.directory, self._strategy.worker_index)
        self._resumed = choice.choose(
            self._files, self._facts, self._exchange, uuid.uuid4().hex, arguments.get("epochs", 1)
        )
        self._state = None
        self._begin_with_no_place()
        if self._resumed.name is not None:
            data.check_seeds(self._data_seeds, self._resumed.header["data seeds"])
            self._state = decode(self._resumed.header["state"], self._resumed.arrays)
        seed_before = python_state.seed()
        self._set_seeds()
        epoch_iterator.expect(model, self._note_data)
        try:
            yield
            self._end()
        finally:
            epoch_iterator.forget(model)
            python_state.set_seed(*seed_before)
            self._resumed = self._state = self._data = self._callbacks = self._arguments = None

    def _strategy_of(self, model):
        strategy = model.distribute_strategy
        known = is_tfdist(strategy) or training_state.is_single_device(strategy)
        if not known:
            raise checks.not_trained_by_tfdist("Checkpoint", strategy)
        return answering(strategy)

    def _come_last(self, arguments):
        """Puts this callback behind all others, `History` included; returns the others."""
        given = arguments.get("callbacks")
        listed = checks.callbacks_of(arguments)
        others = [callback for callback in listed if callback is not self]
        if any(isinstance(callback, Checkpoint) for callback in others):
            raise ValueError("`fit` received two `Checkpoint` callbacks: expected one.")
        if not any(isinstance(callback, keras.callbacks.History) for callback in others):
            others.append(keras.callbacks.History())
        if isinstance(given, keras.callbacks.CallbackList):
            given.callbacks = [*others, self]
        else:
            arguments["callbacks"] = [*others, self]
        return others

    def _begin_with_no_place(self):
        self._data = None
        self._epoch, self._step, self._steps, self._finished = 0, 0, 0, 0
        self._evaluations, self._evaluations_to_walk = 0, 0
        self._logs, self._stopped, self._nothing_left = {}, False, False

    def _set_seeds(self):
        """Makes what is random begin as it did when the training began."""
        if self._state is not None:
            self._seed, self._random_at_fit = self._state["seed"], self._state["random at fit"]
            python_state.set_random_state(self._random_at_fit)
        else:
            self._seed = python_state.seed()
            if self._seed[0] is None:
                self._seed = [uuid.uuid4().int % 2**31, True]
            self._random_at_fit = python_state.random_state()
        python_state.set_seed(*self._seed)

    def _note_data(self, iterator):
        self._data = iterator

    def _end(self):
        """`fit` has returned."""
        if self._nothing_left:
            self._restore_variables()  # what `fit` and callbacks do at the end was done before
        else:
            self._save("end")

    # -- what Keras calls -------------------------------------------------------

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._arguments is None:  # Python has looked `model.fit` up before it came here
            raise RuntimeError(
                "`Checkpoint` was created inside the call of `fit`, and nothing of tfdist before "
                "it, so that it could not see the data. Create it on a line before the call: "
                "`checkpoint = tfdist.callbacks.Checkpoint(directory)`, and then "
                "`model.fit(..., callbacks=[checkpoint])`."
            )
        self._shape = data.shape_of(self._data, self._arguments, self.model.steps_per_execution)
        if self._state is not None:
            header = self._resumed.header
            variables.make_ready(self.model, self._strategy, header["structure"])
            data.check_shape(self._shape, header["data"])
        self._files.remove_newer(self._resumed.name)
        if self._state is not None:
            self._restore()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self._state is not None and self._step:
            self._restore_variables()
            python_state.set_callbacks_state(self._callbacks, self._state["callbacks"])
            python_state.set_random_state(self._state["random"])
            epoch_iterator.begin_at(self._data, self._step)
            epoch_iterator.set_logs_of_the_step_before(self.model, self._logs)
        else:
            self._step = 0
        self._state = None
        self._epoch = epoch
        self._random = python_state.random_state()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._first_batch = batch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        before = self._steps
        self._step = batch + 1
        if self._shape["batches an epoch"] is not None:
            self._step = min(self._step, self._shape["batches an epoch"])
        self._steps += self._step - self._first_batch
        self._logs = logs
        if self.every_steps and self._steps // self.every_steps > before // self.every_steps:
            self._save("step")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._step = epoch + 1, 0
        self._finished += 1
        self._stopped = bool(self.model.stop_training)
        self._random = python_state.random_state()
        self._save("epoch")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        times, self._evaluations_to_walk = self._evaluations_to_walk, 0
        self._evaluations += 1
        if times:
            validation = epoch_iterator.validation_of(self.model)
            read = data.needs_reading(self._arguments.get("validation_data"))
            epoch_iterator.walk_through(validation, times, read=read, reset=True)

    # -- there and back ---------------------------------------------------------

    def _restore(self):
        """At `on_train_begin`: everything is as it was when the checkpoint was written."""
        state = self._state
        self._epoch, self._step = state["epoch"], state["step"]
        self._steps, self._finished = state["steps"], state["finished"]
        self._evaluations = self._evaluations_to_walk = state["evaluations"]
        self._logs, self._stopped = state["logs"], state["stopped"]
        self._restore_variables()
        python_state.set_callbacks_state(self._callbacks, state["callbacks"])
        self.model.history.history = state["history"]
        self.model.history.epoch = state["history epochs"]
        self.model.stop_training = self._stopped
        epochs = self._arguments.get("epochs", 1)
        first = max(self._epoch, epochs) if self._stopped else self._epoch
        epoch_iterator.set_first_epoch(self.model, first)
        self._nothing_left = first >= epochs and self._resumed.header["phase"] == "end"
        if first < epochs:
            read = data.needs_reading(self._arguments.get("x"))
            epoch_iterator.walk_through(self._data, self._finished, state["batches"], read)
        python_state.set_random_state(state["random"])

    def _restore_variables(self):
        resumed = self._resumed
        variables.restore(self.model, self._strategy, resumed.arrays, resumed.header["dtypes"])

    def _save(self, phase):
        arrays, dtypes = variables.read(self.model, self._strategy)
        state = {
            "epoch": self._epoch,
            "step": self._step,
            "steps": self._steps,
            "finished": self._finished,
            "stopped": self._stopped,
            "batches": epoch_iterator.batches_an_epoch(self._data),
            "evaluations": self._evaluations,
            "logs": self._logs,
            "history": self.model.history.history,
            "history epochs": self.model.history.epoch,
            "callbacks": python_state.callbacks_state(self._callbacks),
            "random": self._random,
            "seed": self._seed,
            "random at fit": self._random_at_fit,
        }
        header = {
            **self._facts,
            "training": self._resumed.training,
            "phase": phase,
            "epoch": self._epoch,
            "stopped": self._stopped,
            "state": encode(state, arrays),
            "structure": variables.structure_of(self.model, self._strategy),
            "dtypes": dtypes,
            "data": self._shape,
            "data seeds": self._data_seeds,
        }
        self._write(name_of(self._steps, phase), header, arrays)

    def _write(self, name, header, arrays):
        problems = write(self._files, name, header, arrays, self._exchange)
        if not problems:
            self._files.keep_newest(self.max_to_keep)
        elif self.on_write_error == "stop":
            raise OSError(f"{problems}. The previous checkpoint is complete.")
        else:
            warnings.warn(
                f"{problems}. Training goes on; the previous checkpoint is complete.", stacklevel=2
            )

    def _exchange(self, what, facts):
        return self._strategy.exchange(what, facts)


def _gradient_sync_of(callbacks):
    """The gradient-sync callback among `callbacks`, as text; None for plain all-reduce."""
    found = [one for one in callbacks if isinstance(one, GradientSyncCallback)]
    return found[0].describe() if found else None
