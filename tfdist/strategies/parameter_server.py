"""Asynchronous training: parameter servers hold the weights, workers send gradients."""

import contextlib
import functools
import uuid

import tensorflow as tf

from tfdist import compat, tf_config
from tfdist.compat import parameter_servers as engine
from tfdist.data.reading import without_autotuner
from tfdist.strategies import async_functions
from tfdist.strategies.base import KerasStrategy
from tfdist.strategies.lost_worker import explain_server
from tfdist.strategies.server import serve, wait_for_servers
from tfdist.strategies.worker_datasets import WorkerDatasets
from tfdist.sync.staleness import SLOTS, Asynchrony


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

    def __init__(self, cluster_resolver=None, variable_partitioner=None):
        self.cluster = _cluster(cluster_resolver)
        if self.cluster.job in ("worker", "ps"):
            serve(self.cluster)
        wait_for_servers(self.cluster)
        compat.install()
        resolver = cluster_resolver or tf.distribute.cluster_resolver.TFConfigClusterResolver()
        super().__init__(resolver)
        self.variable_partitioner = variable_partitioner
        self.asynchrony = Asynchrony()
        self._locks, self._claims = {}, {}
        engine.adopt(self, self._add_lock, self._update_in_one_piece)

    @functools.cached_property
    def coordinator(self):
        """The `tf.distribute.coordinator.ClusterCoordinator`."""
        return engine.new_coordinator(self)

    # -- updates ------------------------------------------------------------

    def _add_lock(self, variable):
        # With a name of its own: those without share one lock.
        with tf.device(variable.device):
            self._locks[variable.handle.ref()] = tf.CriticalSection(shared_name=uuid.uuid4().hex)

    def _update_in_one_piece(self, variable, update):
        lock = self._locks.get(variable.handle.ref())
        if lock is None or tf.executing_eagerly():
            return update()

        def updated():
            update()  # what it returns is of no use to Keras
            return tf.constant(True)

        in_one_piece(lock, updated)
        return None

    def claim_of(self, optimizer):
        """A function that claims a step's number for `optimizer`.

        Args:
            optimizer: a built Keras optimizer.

        Returns:
            A function of a scalar int64 tensor that returns `(is_first, version)`: whether
            the step was not claimed before, and the updates that were applied before it.
        """
        iterations = optimizer.iterations.value
        if id(optimizer) not in self._claims:
            with tf.device(iterations.device):
                self._claims[id(optimizer)] = (
                    optimizer,
                    tf.Variable(tf.fill([SLOTS], tf.constant(-1, tf.int64)), trainable=False),
                )
        _, taken = self._claims[id(optimizer)]
        lock = self._locks[iterations.handle.ref()]

        def claim(number):
            def locked():
                slot = number % SLOTS
                is_first = tf.gather(taken, slot) != number
                version = tf.cast(iterations.read_value(), tf.int64)
                taken.scatter_nd_update([[slot]], [number])
                iterations.assign_add(tf.cast(is_first, iterations.dtype))
                return is_first, version

            with tf.device(iterations.device):
                return in_one_piece(lock, locked)

        return claim

    # -- what Keras and the patches call ------------------------------------

    def experimental_distribute_dataset(self, dataset, options=None):
        """The dataset, undistributed: the coordinator reads it and deals its batches out."""
        return without_autotuner(dataset)

    def distribute_datasets_from_function(self, dataset_fn, options=None):
        """A dataset that each worker reads for itself, for `fit`, `evaluate` and `predict`.

        Args:
            dataset_fn: a function of a `tf.distribute.InputContext`, whose
                `num_input_pipelines` is the number of workers and `input_pipeline_id` (a
                tensor) this one's index, that returns a batched `tf.data.Dataset`. Let it
                `shard` by them, or workers read the same.
            options: not used.
        """
        return WorkerDatasets(self, dataset_fn)

    def make_keras_function(self, model, kind):
        return async_functions.make_function(self, model, kind)

    @contextlib.contextmanager
    def steering(self, asynchrony):
        """The `fit` inside is as asynchronous as `asynchrony`, an `Asynchrony`, says."""
        before, self.asynchrony = self.asynchrony, asynchrony
        try:
            yield
        finally:
            self.asynchrony = before

    def settle(self, model):
        for function in (model.test_function, model.train_function):
            if function is not None:
                function.settle()

    def epoch_logs(self, model, method, logs, of_metrics):
        """What Keras logs; waits for the steps that are out, after which metrics are whole."""
        functions = (model.test_function, model.train_function)
        active = [f for f in functions if f is not None and f.is_active]
        more = active[0].finish() if active else {}
        return {**model.get_metrics_result(), **more}

    def explain(self, error, method):
        """The exception to raise instead of `error` where a server was lost; names it."""
        return explain_server(error, method, self.cluster)


def in_one_piece(lock, function):
    """Calls `function` under `lock`, a `tf.CriticalSection`, in a graph.

    The lock waits for what it returns alone; here for all that it does.
    """
    graph = tf.compat.v1.get_default_graph()

    def locked():
        before = len(graph.get_operations())
        results = function()
        new = [op for op in graph.get_operations()[before:] if op.type != "Placeholder"]
        with tf.control_dependencies(new):
            return tf.nest.map_structure(tf.identity, results)

    return lock.execute(locked, exclusive_resource_access=False)


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
