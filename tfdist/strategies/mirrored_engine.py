"""What mirrored strategies add to their `tf.distribute` namesakes: replicas that step together."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdist import compat
from tfdist.compat import active_step, autograph, inputs, variables
from tfdist.compat import strategy as engine
from tfdist.compat import trainer as compat_trainer
from tfdist.data.reading import without_autotuner
from tfdist.data.split import is_dealt_out, split_global_batches
from tfdist.strategies import one_order
from tfdist.strategies.base import KerasStrategy
from tfdist.strategies.keras_functions import Steps
from tfdist.strategies.place import Mesh, Place
from tfdist.strategies.predictions import Predictions
from tfdist.strategies.variables import layer_variables
from tfdist.sync.after_update import chain_within
from tfdist.sync.communicator import ReplicaCommunicator
from tfdist.sync.loop_step import Step
from tfdist.sync.loss_idioms import LossIdioms
from tfdist.sync.step import KerasStep

if TYPE_CHECKING:
    import keras

    from tfdist.strategies.gradient_sync import GradientSync
    from tfdist.sync.communicator import Traffic
    from tfdist.sync.protocol import Communicator


class MirroredEngine(KerasStrategy):
    """Mixed into a mirrored `tf.distribute` strategy, whose replicas step together.

    A subclass calls `_adopt_engine` at the end of its constructor.
    """

    place: Place = None  # type: ignore[assignment]  # until then

    def _adopt_engine(self, communication_options=None, sum_over_workers=None):
        compat.install()
        self.num_workers = engine.worker_count(self)
        self.worker_index = engine.worker_index(self)
        self._devices = super().num_replicas_in_sync // self.num_workers
        self.place = self._find_place()
        self._communication_options = communication_options
        self._distributes_for_keras = False
        self._gradient_syncs = {}  # by id of the model in whose `fit` they are
        engine.adopt(self, self._note_variable, self._note_collective, sum_over_workers)

    # -- replicas -----------------------------------------------------------

    def _find_place(self):
        """The `Place` of this worker: here the axis `data` is the only one."""
        return Place(Mesh(data=self.num_workers), self.worker_index, self._devices)

    @property
    def num_replicas_in_sync(self) -> int:
        """Data-parallel replicas of all workers."""
        return super().num_replicas_in_sync if self.place is None else self.place.num_replicas

    def communicator(
        self, traffic: Traffic | None = None, order: tf.Variable | None = None
    ) -> Communicator:
        """Collectives for the replica whose context is active.

        Args:
            traffic: a `tfdist.sync.communicator.Traffic` that counts them, or None.
            order: a replicated variable that keeps them in order, or None.
        """
        if self.place.num_replicas > 1 and self.place.mesh.data < self.num_workers:
            raise NotImplementedError(
                f"{self.place.mesh}: collectives are of all workers, not yet of those along one "
                "axis. Expected one replica, or as many workers along `data` as there are."
            )
        return ReplicaCommunicator(
            self.num_replicas_in_sync,
            self._communication_options,
            self.replica_id(),
            self.ring,
            functools.partial(engine.all_gather, self),
            traffic,
            order,
        )

    def replica_id(self) -> tf.Tensor | None:
        """This replica's index among all, a scalar int tensor; None for a single replica."""
        if self.num_replicas_in_sync == 1:
            return None
        context = tf.distribute.get_replica_context()
        # TensorFlow counts devices, over all workers.
        before = self.worker_index * self._devices
        device = tf.convert_to_tensor(context.replica_id_in_sync_group)
        if before == self.place.first_replica:
            return device
        return device - before + self.place.first_replica

    def _note_collective(self):
        step = active_step.current()
        if step is not None:
            step.note_forward_collective()

    # -- tf.distribute's public methods -------------------------------------

    def run(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: tf.distribute.RunOptions | None = None,
    ) -> Any:
        """Runs `fn` on each replica, see `tf.distribute.Strategy.run`.

        Optimizers inside it reduce gradients before they clip them.
        """
        if self.num_workers > 1:
            with tf.init_scope():
                self.synchronize_new_variables()
        fn = autograph.convert(fn)

        @tf.autograph.experimental.do_not_convert
        def in_step(*args, **kwargs):
            with active_step.activate(Step(self.communicator(), self.replica_id())):
                return fn(*args, **kwargs)

        eagerly = tf.executing_eagerly()
        with self.watching("`strategy.run`") if eagerly else contextlib.nullcontext():
            return self.run_on_replicas(in_step, args, kwargs, options)

    def run_on_replicas(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: tf.distribute.RunOptions | None = None,
    ) -> Any:
        """`run`, for functions that look after variables, gradients and deadlines themselves."""
        return super().run(fn, args=args, kwargs=kwargs, options=options)

    def reduce(
        self, reduce_op: tf.distribute.ReduceOp | str, value: Any, axis: int | None = None
    ) -> tf.Tensor:
        """Reduces `value` over replicas, see `tf.distribute.Strategy.reduce`.

        A metric's state that `fit` or `evaluate` keeps global is read locally, so
        that one worker alone may do it.
        """
        if axis is None and engine.is_sync_on_read(value):
            if self.place.mesh.data == 1:
                return tf.add_n(engine.local_components(value))
            copy = variables.global_copy(value)
            if copy is not None:
                return copy.read_value()
            if tf.executing_eagerly() and not variables.differs_between_workers(value):
                return self.place.mesh.data * tf.add_n(engine.local_components(value))
        return super().reduce(reduce_op, value, axis)

    def experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: tf.distribute.InputOptions | None = None
    ) -> tf.distribute.DistributedDataset:
        """Deals each global batch of `dataset` out to the replicas.

        Every worker must pass the same dataset; sizes per replica differ by at
        most one example. On several workers its order is a fixed one, whatever
        `deterministic` says (see `tfdist.strategies.one_order`). Where the user has
        set the auto-shard policy to FILE, HINT or OFF, TensorFlow's own sharding is
        used and the examples of a step are whatever each worker reads.
        """
        if options is not None or not is_dealt_out(dataset):
            # No `prefetch`: TensorFlow takes the end of the pipeline apart.
            dataset = without_autotuner(dataset, prefetch=0)
            return super().experimental_distribute_dataset(dataset, options)
        if self.num_workers > 1:
            dataset = one_order.of_all_workers(dataset, self)
        local = split_global_batches(
            dataset,
            self.num_replicas_in_sync,
            self.place.first_replica,
            self.num_local_replicas,
            as_global_batches=self._distributes_for_keras,
        )
        return inputs.distribute_local(self, local)

    # -- Keras ----------------------------------------------------------------

    @contextlib.contextmanager
    def distributing_for_keras(self) -> Iterator[None]:
        """Datasets distributed inside tell each replica the size of the global batch."""
        self._distributes_for_keras = self.num_replicas_in_sync > 1
        try:
            yield
        finally:
            self._distributes_for_keras = False

    def make_keras_function(self, model: keras.Model, kind: str) -> Callable[[Any], Any]:
        if kind == "predict":
            return Predictions(self, model)
        return Steps(self, model, kind)

    def make_step(
        self,
        model: keras.Model,
        examples: tf.Tensor,
        global_examples: tf.Tensor | None,
        sync: GradientSync | None = None,
    ) -> KerasStep:
        own_step = not compat_trainer.has_keras_loss(model)
        idioms = LossIdioms(self.num_replicas_in_sync, self.batch_size, own_step)
        chains = {
            "after_update": chain_within(model),
            "before_update": self.before_update(model),
        }
        if sync is not None:
            return sync.step(examples, global_examples, idioms=idioms, **chains)
        return KerasStep(
            self.communicator(),
            self.replica_id(),
            examples,
            global_examples,
            layer_variables(model),
            idioms,
            **chains,
        )

    def epoch_logs(
        self, model: keras.Model, method: str, logs: Any, of_metrics: Callable[[Any], Any]
    ) -> Any:
        steps = model.train_function if method == "fit" else model.test_function
        return steps.epoch_logs(logs, of_metrics)

    @contextlib.contextmanager
    def synchronizing_gradients(self, model: keras.Model, sync: GradientSync) -> Iterator[None]:
        """The `fit` of `model` inside agrees by `sync`, a `GradientSync`."""
        self._gradient_syncs[id(model)] = sync
        try:
            yield
        finally:
            del self._gradient_syncs[id(model)]

    def gradient_sync_of(self, model: keras.Model) -> GradientSync | None:
        return self._gradient_syncs.get(id(model))

    def gather_in_order(self, value: Any) -> tf.Tensor:
        """Concatenates each replica's rows, in the order of the input; on all workers."""
        if self.num_replicas_in_sync == 1:
            return self.experimental_local_results(value)[0]
        if self.place.mesh.data == 1:
            return tf.concat(self.experimental_local_results(value), axis=0)
        first = self.experimental_local_results(value)[0]
        if isinstance(first, tf.RaggedTensor):
            parts = self.run_on_replicas(
                lambda part: (part.flat_values, part.nested_row_lengths()), args=(value,)
            )
            values, lengths = tf.nest.map_structure(self.gather_in_order, parts)
            return tf.RaggedTensor.from_nested_row_lengths(values, lengths)
        dtype = first.dtype
        if dtype == tf.string:
            raise ValueError(
                "`predict` on several workers cannot gather strings: TensorFlow's collectives "
                "take numbers. Return the numbers, and look the strings up from the result."
            )
        if dtype.is_floating or dtype in (tf.int32, tf.int64):
            return self.gather(value, axis=0)
        wide = self.run_on_replicas(lambda part: tf.cast(part, tf.int64), args=(value,))
        return tf.cast(self.gather(wide, axis=0), dtype)

    def _note_variable(self, variable):
        pass
