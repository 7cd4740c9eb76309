"""What all others may ask of a tfdist strategy.

Callbacks, checkpoints, the tuner and the patches of Keras ask a strategy by these names, and
look for no others. Defaults are right for one process: `mirrored_engine` says what is otherwise
where replicas step together, `parameter_server` where they do not, and `single` stands for no
strategy at all. What is asked of replicas that step together alone (`communicator`,
`replica_id`, `run_on_replicas`) stands in `mirrored_engine`. `tfdist.TPUStrategy`, and what
`tfdist` hands on from `tf.distribute`, are not among them: there Keras trains by its own steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tfdist.strategies.place import Place
from tfdist.sync.after_update import AfterUpdate, chain_of
from tfdist.sync.before_update import BeforeUpdate

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.distribute import Strategy as _Strategy

    from tfdist.strategies.gradient_sync import GradientSync
    from tfdist.sync.step import KerasStep
else:
    _Strategy = object  # mixed into one: type checkers must know what it has


class KerasStrategy(_Strategy):
    """Mixed into a `tf.distribute` strategy: Keras' `fit` works under its scope.

    Attributes:
        is_tfdist: whether steps are tfdist's; how `compat` knows a strategy of tfdist.
        is_asynchronous: whether replicas step each in its own time.
        place: the `tfdist.strategies.place.Place` of this process.
        num_workers: int, the processes that run the program.
        worker_index: int, this one's among them.
        ring: the `tfdist.sync.ring.Ring` between the workers, or None.
        variable_partitioner: a partitioner of `tf.distribute.experimental.partitioners` that
            splits tables of embeddings, or None.
        batch_size: of the Keras call that goes on, where it is known.
        state_rows: dict of what `tfdist.strategies.stateful` checks, of the Keras call that begins.
        next_call: dict of what `checks` found out about the Keras call that begins, or None.
    """

    is_tfdist = True
    is_asynchronous = False
    place: Place = Place()
    num_workers = 1
    worker_index = 0
    ring = None
    variable_partitioner = None
    batch_size = None
    state_rows: dict[str, Any] = {}  # replaced, never changed
    next_call = None

    # -- replicas and workers -------------------------------------------------

    @property
    def num_local_replicas(self) -> int:
        """Data-parallel replicas of which this worker holds a part, or the whole."""
        return self.place.num_local_replicas

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes files and progress bars."""
        return self.worker_index == 0

    def exchange(self, what: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Tells all workers `facts` (a dict of JSON values); returns the list of theirs.

        Args:
            what: str, for messages: what the facts are about.
            facts: dict of JSON values.
        """
        return [facts]

    def watching(self, description: str) -> contextlib.AbstractContextManager[Any]:
        """A context in which waiting for other processes has a deadline."""
        return contextlib.nullcontext()

    def explain(self, error: BaseException, method: str) -> BaseException | None:
        """The exception to raise instead of `error`, which ended `method`; None for itself."""

    def synchronize_new_variables(self) -> None:
        """Gives variables made since the last call the chief's values, on all workers."""

    def renew(self, variables: Sequence[tf.Variable]) -> None:
        """Treats distributed variables as new ones: the chief's values are sent when next used."""

    # -- Keras ----------------------------------------------------------------

    def distributing_for_keras(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which datasets are distributed for Keras' own methods."""
        return contextlib.nullcontext()

    def make_keras_function(self, model: keras.Model, kind: str) -> Callable[[Any], Any]:
        """The step function of `model`; `kind` is "train", "test" or "predict"."""
        raise NotImplementedError(f"{type(self).__name__} has no step functions of its own.")

    def make_step(
        self,
        model: keras.Model,
        examples: tf.Tensor,
        global_examples: tf.Tensor | None,
        sync: GradientSync | None = None,
    ) -> KerasStep:
        """The step of the replica whose context is active, see `tfdist.sync.step.KerasStep`.

        Args:
            model: the Keras model.
            examples: scalar int tensor, how many of the replica's examples count.
            global_examples: scalar int tensor, that of the global batch; None if not known.
            sync: the `GradientSync` of the `fit` to which it belongs, or None.
        """
        raise NotImplementedError(f"{type(self).__name__} has no steps of its own.")

    def begin(self, model: keras.Model, facts: dict[str, Any]) -> None:
        """What all workers do at the first step of a Keras call.

        Args:
            model: the Keras model.
            facts: dict of what must be equal on all workers.
        """

    def build_optimizer(self, model: keras.Model) -> None:
        """Makes the state of `model.optimizer`, in the scope, where it has none yet."""
        if model.optimizer is not None and not model.optimizer.built:
            with self.scope():
                model.optimizer.build(model.trainable_variables)

    @contextlib.contextmanager
    def saving(self, model: keras.Model) -> Iterator[bool]:
        """Stands around each call that writes `model`, or its weights, to a file.

        Where workers hold pieces of variables, all of them must make the call, and this is
        where the wholes come together; else each may make it alone.

        Yields:
            bool, whether this worker writes.
        """
        yield self.is_chief

    def after_update(self, model: keras.Model) -> AfterUpdate:
        """The chain of what happens behind each update of `model`, an `AfterUpdate`.

        What is linked in front of `fit` is a part of its steps, those of a model that holds
        this one, too: a train function that has been made already must be made again
        (`model.train_function = None`).
        """
        return chain_of(model)

    def before_update(self, model: keras.Model) -> BeforeUpdate:
        """The chain of what sees the gradients of `model` in front of each update.

        A `BeforeUpdate`. What is linked in front of `fit` is a part of its steps, as with
        `after_update`.
        """
        return vars(model).setdefault("_tfdist_before_update", BeforeUpdate())

    def epoch_logs(
        self, model: keras.Model, method: str, logs: Any, of_metrics: Callable[[Any], Any]
    ) -> Any:
        """What `fit` and `evaluate` log where their steps have ended; on all workers.

        Args:
            model: the Keras model.
            method: "fit" or "evaluate".
            logs: those of the last step.
            of_metrics: function of them, Keras' own.
        """
        return of_metrics(logs)

    def settle(self, model: keras.Model) -> None:
        """Waits for the steps of `model` that are out, and sums its metrics up."""

    def gradient_sync_of(self, model: keras.Model) -> GradientSync | None:
        """The `GradientSync` of the present `fit` of `model`; None for plain all-reduce."""
