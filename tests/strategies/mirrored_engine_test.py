"""What every strategy adds: custom loops, data, reductions and metrics, on two CPUs."""

import contextlib
import inspect

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

import tfdist
from tfdist.data.split import GlobalBatch
from tfdist.strategies.place import Mesh, Place

X = np.random.default_rng(1).normal(size=(16, 3)) * np.linspace(0.1, 4, 16)[:, None]
Y = np.random.default_rng(2).normal(size=(16, 2))


class Stock(tf.distribute.MirroredStrategy):
    # TensorFlow's strategies share their collectives' names, see compat/strategy.py.
    _collective_key_base = 10


@pytest.fixture(scope="module")
def stock():
    return Stock(devices.PAIR)


def test_public_methods_take_what_tf_distributes_take():
    for name in ("run", "reduce", "experimental_distribute_dataset"):
        stock = inspect.signature(getattr(tf.distribute.MirroredStrategy, name))
        mine = inspect.signature(getattr(tfdist.MirroredStrategy, name))
        assert list(mine.parameters) == list(stock.parameters)
        for parameter, theirs in zip(mine.parameters.values(), stock.parameters.values()):
            # `reduce` may be called without its axis.
            assert parameter.default == theirs.default or theirs.default is theirs.empty


# -- custom training loops ----------------------------------------------------------


def custom_loop(strategy, optimizer, eager=False):
    """Three steps of a loop as TensorFlow's guide writes it; the weights and the losses."""
    with strategy.scope():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")]
        )
        optimizer = optimizer()
        # Its variables cannot be made in the step's function, TensorFlow's CPU collectives fail.
        optimizer.build(model.trainable_variables)
        loss_of = keras.losses.MeanSquaredError(reduction=None)
    dataset = tf.data.Dataset.from_tensor_slices((X.astype("float32"), Y.astype("float32"))).batch(
        8
    )

    def replica_step(inputs):
        x, y = inputs
        with tf.GradientTape() as tape:
            loss = tf.nn.compute_average_loss(loss_of(y, model(x)), global_batch_size=8)
        gradients = tape.gradient(loss, model.trainable_variables)
        if tf.reduce_sum(loss) < 0:  # of a tensor: AutoGraph converts it
            loss = -loss
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    def step(batch):
        return strategy.reduce("SUM", strategy.run(replica_step, args=(batch,)), axis=None)

    if not eager:
        step = tf.function(step)
    losses = [
        float(step(batch))
        for _ in range(2)
        for batch in strategy.experimental_distribute_dataset(dataset)
    ]
    return [np.asarray(v) for v in model.trainable_variables], losses


def test_a_custom_loop_gives_the_numbers_of_tf_distribute(stock):
    def sgd():
        return keras.optimizers.SGD(0.05, momentum=0.9)

    mine, losses = custom_loop(two_cpus(), sgd)
    theirs, their_losses = custom_loop(stock, sgd)
    assert len(losses) == 4
    np.testing.assert_allclose(losses, their_losses, rtol=1e-5)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def numpy_loop(clipnorm):
    """The same loop on all examples, each weight's gradient clipped."""
    kernel, bias, losses = np.ones((3, 2)), np.zeros(2), []
    for rows in (slice(0, 8), slice(8, 16)) * 2:
        error = X[rows] @ kernel + bias - Y[rows]
        losses.append(np.mean(error**2))
        gradients = [X[rows].T @ error / 8, error.sum(axis=0) / 8]  # 2 e / 2 outputs
        norms = [np.linalg.norm(gradient) for gradient in gradients]
        assert max(norms) > clipnorm  # else the test is void
        clipped = [g * min(1, clipnorm / norm) for g, norm in zip(gradients, norms)]
        kernel, bias = kernel - 0.05 * clipped[0], bias - 0.05 * clipped[1]
    return [kernel, bias], losses


@pytest.mark.parametrize("eager", [False, True], ids=["graph", "eager"])
def test_clipping_in_a_custom_loop_sees_the_sum(eager):
    def sgd():
        return keras.optimizers.SGD(0.05, clipnorm=0.4)

    weights, losses = custom_loop(two_cpus(), sgd, eager)
    expected, expected_losses = numpy_loop(0.4)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_replicas_know_their_index():
    strategy = two_cpus()
    ids = strategy.run(lambda: strategy.replica_id())
    assert [int(i) for i in strategy.experimental_local_results(ids)] == [0, 1]
    assert tfdist.MirroredStrategy(devices.PAIR[:1]).replica_id() is None


def test_run_passes_arguments_and_results():
    strategy = two_cpus()

    def on_replica(a, b=0):
        return {"a": a + strategy.replica_id(), "b": [b * a]}

    result = strategy.run(on_replica, args=(tf.constant(2),), kwargs={"b": 3})
    assert [int(v) for v in strategy.experimental_local_results(result["a"])] == [2, 3]
    assert [int(v) for v in strategy.experimental_local_results(result["b"][0])] == [6, 6]


# -- data -----------------------------------------------------------------------------

STRUCTURES = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, x + 1),
    "dict": lambda x: {"b": x, "a": (x + 1, x + 2)},
}


@pytest.mark.parametrize("make", STRUCTURES.values(), ids=STRUCTURES)
def test_a_custom_loops_data_keep_their_structure(make):
    strategy = two_cpus()
    dataset = tf.data.Dataset.range(7).batch(4).map(make)
    distributed = strategy.experimental_distribute_dataset(dataset)
    parts = [
        tf.nest.map_structure(lambda v, r=r: strategy.experimental_local_results(v)[r], batch)
        for batch in distributed
        for r in range(2)
    ]
    for part, rows in zip(parts, ([0, 1], [2, 3], [4, 5], [6]), strict=True):
        expected = make(np.array(rows))
        tf.nest.assert_same_structure(part, expected)
        for a, b in zip(tf.nest.flatten(part), tf.nest.flatten(expected)):
            np.testing.assert_array_equal(a, b)


def test_keras_gets_the_size_of_the_global_batch():
    strategy = two_cpus()
    dataset = tf.data.Dataset.range(3).batch(3)
    with strategy.distributing_for_keras():
        (batch,) = strategy.experimental_distribute_dataset(dataset)
    assert isinstance(batch, GlobalBatch)
    examples = strategy.experimental_local_results(batch.examples)
    assert [int(n) for n in examples] == [2, 1]
    (batch,) = strategy.experimental_distribute_dataset(dataset)
    assert not isinstance(batch, GlobalBatch)


@pytest.mark.parametrize("policy", ["FILE", "HINT", "OFF", "AUTO", "DATA"])
def test_who_shards(monkeypatch, policy):
    strategy = two_cpus()
    called = []
    monkeypatch.setattr(
        tf.distribute.MirroredStrategy,
        "experimental_distribute_dataset",
        lambda self, dataset, options=None: called.append(options),
    )
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy[policy]
    dataset = tf.data.Dataset.range(8).batch(4)
    strategy.experimental_distribute_dataset(dataset.with_options(options))
    assert called == ([None] if policy in ("FILE", "HINT", "OFF") else [])
    mine = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    strategy.experimental_distribute_dataset(dataset, mine)
    assert called[-1] is mine


# -- reductions and metrics -------------------------------------------------------------


@pytest.mark.parametrize("op, axis", [("SUM", None), ("MEAN", None), ("SUM", 0), ("MEAN", 0)])
def test_reductions_are_those_of_tf_distribute(stock, op, axis):
    results = []
    for strategy in (two_cpus(), stock):
        value = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant([1.0, 2.0, 6.0]) * (context.replica_id_in_sync_group + 1)
        )
        results.append(strategy.reduce(op, value, axis).numpy())
    np.testing.assert_array_equal(results[0], results[1])
    both = np.array([[1.0, 2.0, 6.0], [2.0, 4.0, 12.0]])
    combine = np.sum if op == "SUM" else np.mean
    np.testing.assert_array_equal(results[0], combine(both, axis=0 if axis is None else None))


def test_rows_are_gathered_in_the_order_of_replicas():
    strategy = two_cpus()
    value = strategy.experimental_distribute_values_from_function(
        lambda context: tf.range(2 + context.replica_id_in_sync_group)
    )
    assert strategy.gather_in_order(value).numpy().tolist() == [0, 1, 0, 1, 2]
    single = tfdist.MirroredStrategy(devices.PAIR[:1])
    assert single.gather_in_order(tf.constant([4, 5])).numpy().tolist() == [4, 5]


def test_a_metric_reads_as_that_of_all_replicas():
    strategy = two_cpus()
    with strategy.scope():
        metric = keras.metrics.Mean()
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])[
            context.replica_id_in_sync_group
        ]
    )
    for _ in range(2):
        strategy.run(tf.function(metric.update_state), args=(values,))
    assert float(metric.result()) == 11.0
    assert float(strategy.reduce("SUM", metric.count.value, axis=None)) == 12.0
    with strategy.scope():
        metric.reset_state()
    assert float(metric.result()) == 0.0


def test_the_metrics_of_a_model_can_be_read_after_fit():
    strategy = two_cpus()
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mae"])
    history = model.fit(X, Y, batch_size=5, verbose=0).history  # 16 = 3 x 5 + 1
    results = model.get_metrics_result()
    error = np.abs(model.predict(X, verbose=0) - Y)
    np.testing.assert_allclose(results["mae"], error.mean(), rtol=1e-5)
    np.testing.assert_allclose(results["loss"], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(history["loss"], [results["loss"]], rtol=1e-6)


# -- a mesh of more than data -----------------------------------------------------------


class OfOneReplica(tfdist.MirroredStrategy):
    """One of two processes that hold the parts of one replica (here: each all of it)."""

    def __init__(self, rank):
        self._rank = rank
        super().__init__(devices.PAIR[:1])

    def _find_place(self):
        self.num_workers, self.worker_index = 2, self._rank
        return Place(Mesh(model=2), self._rank, num_local_replicas=1)


def trained(strategy):
    """The history, the evaluation and the weights of a small model with masks of dropout."""
    keras.utils.set_random_seed(3)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dropout(0.3, seed=5), keras.layers.Dense(2)]
        )
        model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", metrics=["mae"])
    history = model.fit(X, Y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    scores = model.evaluate(X, Y, batch_size=5, verbose=0)
    predictions = model.predict(X, batch_size=5, verbose=0)
    return history.history, scores, predictions, model.get_weights()


@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_with_one_replica_train_as_one_process(rank):
    strategy = OfOneReplica(rank)
    assert (strategy.num_local_replicas, strategy.num_replicas_in_sync) == (1, 1)
    history, scores, predictions, weights = trained(strategy)
    expected, expected_scores, expected_predictions, expected_weights = trained(None)
    assert min(expected["loss"]) > 0 and min(expected["mae"]) > 0
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-6)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
    np.testing.assert_allclose(predictions, expected_predictions, rtol=1e-6, atol=1e-7)
    for a, b in zip(weights, expected_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_workers_of_one_replica_read_the_same_rows():
    dataset = tf.data.Dataset.range(7).batch(3)
    both = [
        [batch.numpy().tolist() for batch in strategy.experimental_distribute_dataset(dataset)]
        for strategy in (OfOneReplica(0), OfOneReplica(1))
    ]
    assert both == [[[0, 1, 2], [3, 4, 5], [6]]] * 2


@pytest.mark.parametrize("rank", range(4))
def test_rows_and_random_numbers_follow_the_axis_of_data(rank):
    class Quarter(tfdist.MirroredStrategy):
        def _find_place(self):
            self.num_workers, self.worker_index = 4, rank
            return Place(Mesh(data=2, model=2), rank, num_local_replicas=2)

    strategy = Quarter(devices.PAIR)
    first = 2 * (rank // 2)
    assert (strategy.num_local_replicas, strategy.num_replicas_in_sync) == (2, 4)
    (batch,) = strategy.experimental_distribute_dataset(tf.data.Dataset.range(8).batch(8))
    rows = [part.numpy().tolist() for part in strategy.experimental_local_results(batch)]
    assert rows == [[2 * first, 2 * first + 1], [2 * first + 2, 2 * first + 3]]
    # TensorFlow of this one process counts its devices from 0, that of the fourth from 6.
    ids = strategy.run_on_replicas(lambda: strategy.replica_id() + 2 * rank)
    assert [int(i) for i in strategy.experimental_local_results(ids)] == [first, first + 1]
    # Sums would be those of all four workers.
    with pytest.raises(NotImplementedError, match=r"Mesh\(data=2, stage=1, model=2\)"):
        strategy.run(lambda: tf.constant(0))
