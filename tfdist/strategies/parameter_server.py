"""Asynchronous training: parameter servers hold the weights, workers send gradients."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdist import compat, tf_config
from tfdist.compat import parameter_servers as engine
from tfdist.data.reading import without_autotuner
from tfdist.strategies import async_functions
from tfdist.strategies.base import KerasStrategy
from tfdist.strategies.lost_worker import explain_server
from tfdist.strategies.server import serve, wait_for_servers
from tfdist.strategies.server_updates import ServerUpdates
from tfdist.strategies.worker_datasets import WorkerDatasets
from tfdist.sync.staleness import Asynchrony

if TYPE_CHECKING:
    import keras


class ParameterServerStrategy(KerasStrategy, tf.distribute.ParameterServerStrategy):
    """Asynchronous training by parameter servers, through Keras 3's `fit`.

    A `tf.distribute.ParameterServerStrategy` under whose scope plain `fit`, `evaluate`
    and `predict` work. All processes run the same script: on the coordinator it goes
    on; on workers and parameter servers it ends where the strategy is made, and they
    serve until the coordinator has ended. `tfdist run -n 2 --ps 1 train.py` starts them.

    The coordinator reads the data and hands each batch to the next worker that is
    free: every example is read once an epoch, whatever the workers' speeds. A worker
    computes the gradient at the weights that it finds, and updates each variable in one
    piece on its parameter server. `optimizer.iterations` counts the updates.

    A worker that is lost is waited for, and the others go on; its step is done again,
    and its update applied at most once (see `tfdist.sync.staleness`). The loss of a
    parameter server ends `fit` with an error.

    Example:

    ```python
    strategy = tfdist.ParameterServerStrategy()
    with strategy.scope():
        model = keras.Sequential([keras.layers.Dense(10)])
        model.compile("adam", "mse")
    model.fit(x, y, batch_size=64)  # 64 examples a step, on one worker
    ```

    Args:
        cluster_resolver: a `tf.distribute.cluster_resolver.ClusterResolver`. Defaults to
            the one that reads `TF_CONFIG`.
        variable_partitioner: a partitioner of `tf.distribute.experimental.partitioners`.
            Tables of `keras.layers.Embedding` are split over the parameter servers by
            it; other variables stay whole.

    Raises:
        ValueError: `TF_CONFIG` is malformed, or has no parameter server, no worker or no
            chief.
        TimeoutError: a server did not come (`TFDIST_START_TIMEOUT` seconds, 300).
        SystemExit: on workers and parameter servers, when the coordinator has ended.
    """

    # The coordinator is the only process that runs the program: what is said of one holds.
    is_asynchronous = True

    def __init__(
        self,
        cluster_resolver: tf.distribute.cluster_resolver.ClusterResolver | None = None,
        variable_partitioner: tf.distribute.experimental.partitioners.Partitioner | None = None,
    ) -> None:
        self.cluster = _cluster(cluster_resolver)
        if self.cluster.job in ("worker", "ps"):
            serve(self.cluster)
        wait_for_servers(self.cluster)
        compat.install()
        resolver = cluster_resolver or tf.distribute.cluster_resolver.TFConfigClusterResolver()
        super().__init__(resolver)
        self.variable_partitioner = variable_partitioner
        self.asynchrony = Asynchrony()
        self.updates = ServerUpdates(self)
        engine.adopt(self, self.updates.add_lock, self.updates.of_variable)

    @functools.cached_property
    def coordinator(self) -> tf.distribute.coordinator.ClusterCoordinator:
        """The `tf.distribute.coordinator.ClusterCoordinator`."""
        return engine.new_coordinator(self)

    # -- what Keras and the patches call ------------------------------------

    def experimental_distribute_dataset(
        self,
        dataset: tf.data.Dataset | WorkerDatasets,
        options: tf.distribute.InputOptions | None = None,
    ) -> tf.data.Dataset | WorkerDatasets:
        """The dataset, undistributed: the coordinator reads it and deals its batches out."""
        of_workers = isinstance(dataset, WorkerDatasets)
        return dataset if of_workers else without_autotuner(dataset)

    def distribute_datasets_from_function(
        self,
        dataset_fn: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        options: tf.distribute.InputOptions | None = None,
    ) -> WorkerDatasets:
        """A dataset that each worker reads for itself, for `fit`, `evaluate` and `predict`.

        Args:
            dataset_fn: a function of a `tf.distribute.InputContext`, whose
                `num_input_pipelines` is the number of workers and `input_pipeline_id` (a
                tensor) this one's index, that returns a batched `tf.data.Dataset`. Let it
                `shard` by them, or workers read the same.
            options: not used.
        """
        return WorkerDatasets(self, dataset_fn)

    def make_keras_function(self, model: keras.Model, kind: str) -> Callable[[Any], Any]:
        return async_functions.make_function(self, model, kind)

    @contextlib.contextmanager
    def steering(self, asynchrony: Asynchrony) -> Iterator[None]:
        """The `fit` inside is as asynchronous as `asynchrony`, an `Asynchrony`, says."""
        before, self.asynchrony = self.asynchrony, asynchrony
        try:
            yield
        finally:
            self.asynchrony = before

    def settle(self, model: keras.Model) -> None:
        for function in (model.test_function, model.train_function):
            if function is not None:
                function.settle()

    def epoch_logs(
        self, model: keras.Model, method: str, logs: Any, of_metrics: Callable[[Any], Any]
    ) -> Any:
        """What Keras logs; waits for the steps that are out, after which metrics are whole."""
        functions = (model.test_function, model.train_function)
        active = [f for f in functions if f is not None and f.is_active]
        if not active:
            return of_metrics(logs)
        logs, more = active[0].finish()
        logs = of_metrics(logs)
        return {**logs, **more} if isinstance(logs, dict) else logs

    def explain(self, error: BaseException, method: str) -> BaseException | None:
        """The exception to raise instead of `error` where a server was lost; names it."""
        return explain_server(error, method, self.cluster)


def _cluster(resolver):
    if resolver is None:
        cluster = tf_config.from_environment()
        received = "TF_CONFIG"
    else:
        cluster = tf_config.from_jobs(
            resolver.cluster_spec().as_dict(), resolver.task_type, resolver.task_id
        )
        received = "the cluster resolver"
    for name, there in (
        ("ps", cluster.parameter_servers),
        ("worker", cluster.workers),
        ("chief", cluster.has_chief),
    ):
        if not there:
            raise ValueError(
                f"ParameterServerStrategy needs the jobs chief, worker and ps; {received} has no "
                f"{name!r}. Start the script with `tfdist run -n 2 --ps 1`, which sets TF_CONFIG."
            )
    return cluster
