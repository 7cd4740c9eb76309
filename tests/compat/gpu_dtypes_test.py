"""No GPU is needed: TensorFlow's collectives are made to refuse on CPUs what they refuse there."""

import types

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute.cross_device_ops import CollectiveAllReduce
from tensorflow.python.distribute.mirrored_strategy import MirroredExtended
from tensorflow.python.ops import collective_ops
from upstream import require, two_cpus

import tfdist
from tfdist.compat import gpu_dtypes


@pytest.fixture
def sent(monkeypatch):
    """The dtypes that are summed; int32 and bfloat16 are an error."""
    dtypes, original = set(), collective_ops.all_reduce_v2

    def all_reduce_v2(t, *args, **kwargs):
        dtypes.add(t.dtype)
        assert t.dtype not in (tf.int32, tf.bfloat16), "refused on a GPU"
        return original(t, *args, **kwargs)

    monkeypatch.setattr(collective_ops, "all_reduce_v2", all_reduce_v2)
    monkeypatch.setattr(gpu_dtypes, "is_on_gpus", lambda strategy: True)
    return dtypes


def test_upstream():
    require(collective_ops, "all_reduce_v2")
    extended = tf.distribute.MirroredStrategy(devices.PAIR).extended
    assert isinstance(extended, MirroredExtended)
    assert extended._collective_ops is extended._cross_device_ops
    assert isinstance(extended._collective_ops, CollectiveAllReduce)
    assert len(extended._collective_ops._launchers) == 2
    for launcher in extended._collective_ops._launchers:
        require(launcher, "all_reduce", "_device")


@pytest.mark.parametrize(
    ("last", "expected"),
    [("/job:localhost/replica:0/task:0/device:CPU:0", False), ("/job:worker/device:GPU:0", True)],
)
def test_whose_replicas_are_on_gpus(last, expected):
    extended = types.SimpleNamespace(worker_devices=("/job:worker/device:CPU:0", last))
    assert gpu_dtypes.is_on_gpus(types.SimpleNamespace(extended=extended)) == expected


def test_without_widening_it_would_be_refused(sent, monkeypatch):
    monkeypatch.setattr(gpu_dtypes, "is_on_gpus", lambda strategy: False)
    with pytest.raises(AssertionError, match="refused"):
        sums(two_cpus(), [tf.constant(1)])


def sums(strategy, values):
    """Each value times (replica + 1), summed inside a step: three times the value."""

    @tf.function
    def step():
        def program():
            mine = strategy.replica_id() + 1
            scaled = [value * tf.cast(mine, value.dtype) for value in values]
            return strategy.communicator().all_reduce(scaled)

        return strategy.run(program)

    return [strategy.experimental_local_results(each)[1] for each in step()]


def test_values_of_a_step(sent):
    values = [
        tf.constant([1, -(2**31) // 3], tf.int32),
        tf.constant([2**40], tf.int64),
        tf.constant([1.5, -3.0], tf.bfloat16),
        tf.constant([0.5], tf.float32),
    ]
    for value, total in zip(values, sums(two_cpus(), values), strict=True):
        assert total.dtype == value.dtype
        np.testing.assert_array_equal(total, 3 * value)
    assert sent == {tf.int64, tf.float32}


@pytest.mark.parametrize("dtype", [tf.int32, tf.bfloat16])
def test_what_strategy_reduce_gives_is_what_it_gives_on_cpus(sent, monkeypatch, dtype):
    def reduced(strategy):
        value = strategy.run(
            lambda: tf.cast([1, 2, 5], dtype) * tf.cast(strategy.replica_id(), dtype)
        )

        def each():
            return [
                strategy.reduce(op, value, axis=axis)
                for op in ("SUM", "MEAN")
                for axis in (None, 0)
            ]

        return each() + tf.function(each)()

    found = reduced(two_cpus())
    monkeypatch.undo()
    for mine, expected in zip(found, reduced(two_cpus()), strict=True):
        assert mine.dtype == expected.dtype
        np.testing.assert_array_equal(tf.cast(mine, tf.float64), tf.cast(expected, tf.float64))


def test_variables(sent):
    strategy = two_cpus()
    with strategy.scope():
        kinds = {"synchronization": tf.VariableSynchronization.ON_READ, "trainable": False}
        count = tf.Variable(0, aggregation=tf.VariableAggregation.SUM, dtype="int32", **kinds)
    strategy.run(lambda: count.assign_add(strategy.replica_id() + 1))
    assert count.read_value() == 3
    assert strategy.reduce("SUM", count) == 3


def test_metrics_that_count(sent):
    strategy = two_cpus()
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=[Seen()])
    x, y = np.ones((7, 2)), np.array([0, 1, 2, 0, 1, 2, 0])
    assert model.fit(x, y, batch_size=7, verbose=0).history["seen"] == [7]


class Seen(keras.metrics.Metric):
    """Counts examples in int32."""

    def __init__(self):
        super().__init__(name="seen", dtype="int32")
        self.count = self.add_weight(shape=(), initializer="zeros", dtype="int32")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(keras.ops.shape(y_true)[0])

    def result(self):
        return self.count


def test_two_workers_train():
    def train():
        import keras
        import numpy as np
        import tensorflow as tf
        from tensorflow.python.ops import collective_ops

        import tfdist
        from tfdist.compat import gpu_dtypes

        dtypes, original = set(), collective_ops.all_reduce_v2

        def all_reduce_v2(t, *args, **kwargs):
            dtypes.add(t.dtype.name)
            return original(t, *args, **kwargs)

        collective_ops.all_reduce_v2 = all_reduce_v2
        gpu_dtypes.is_on_gpus = lambda strategy: True
        experimental = tf.distribute.experimental
        strategy = tfdist.MultiWorkerMirroredStrategy(  # as workers of a GPU each
            communication_options=experimental.CommunicationOptions(
                implementation=experimental.CommunicationImplementation.RING
            )
        )
        with strategy.scope():
            model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse", metrics=["mae"])
        model.fit(np.ones((7, 2)), np.ones((7, 1)), batch_size=4, verbose=0)
        return model.get_weights(), dtypes

    (weights, dtypes), (others, _) = tfdist.run(train, workers=2, timeout=120)
    np.testing.assert_array_equal(weights[0], others[0])
    assert "float32" in dtypes and not dtypes & {"int32", "bfloat16"}
