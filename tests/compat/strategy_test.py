import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import cross_device_ops, distribute_lib
from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
)
from tensorflow.python.distribute.mirrored_strategy import MirroredExtended
from upstream import require, require_parameters, stock_pair, two_cpus

import tfdist
from tfdist.compat import strategy as engine


def test_upstream():
    for extended in (MirroredExtended, CollectiveAllReduceExtended):
        require(extended, "_use_merge_call", "_create_variable", "_replica_ctx_all_reduce")
        require(extended, "_get_variable_creator_initial_value")
        require_parameters(
            extended._replica_ctx_all_reduce, "self", "reduce_op", "value", "options"
        )
        require_parameters(
            extended._get_variable_creator_initial_value,
            *("self", "replica_id", "device", "primary_var"),
        )
        require_parameters(extended._create_variable, "self", "next_creator")
    require(distribute_lib.StrategyExtendedV2, "_replica_ctx_all_reduce")
    require(cross_device_ops, "CollectiveAllReduce")
    require_parameters(
        CollectiveAllReduceExtended._initialize_local_devices,
        *("self", "cluster_resolver", "worker_device"),
    )
    require(tf.distribute.MirroredStrategy, "_collective_key_base")
    require(two_cpus().extended, "_cross_device_ops")
    require_parameters(MirroredExtended._get_cross_device_ops, "self", "value")
    require(tf.distribute.MultiWorkerMirroredStrategy().extended, "_num_workers", "_id_in_cluster")


def test_what_is_changed_is_the_strategys_own():
    stock = tf.distribute.MirroredStrategy(devices.PAIR)
    mine = two_cpus()
    assert stock.extended._use_merge_call() and not mine.extended._use_merge_call()
    for name in ("_create_variable", "_replica_ctx_all_reduce"):
        assert name in vars(mine.extended) and name not in vars(stock.extended)


def test_new_variables_and_collectives_are_told():
    class Told(tf.distribute.MirroredStrategy):
        pass

    strategy = Told(devices.PAIR)
    engine.number_collectives_apart(strategy)
    variables, collectives = [], []
    engine.adopt(strategy, variables.append, lambda: collectives.append(1))
    with strategy.scope():
        variable = tf.Variable([1.0, 2.0])
    assert [v is variable for v in variables] == [True]
    np.testing.assert_array_equal(engine.local_components(variable)[1], [1.0, 2.0])
    assert collectives == []


def test_strategies_of_one_process_do_not_mix_their_collectives_up():
    # TensorFlow's own do: the second one's first message is taken for the first one's.
    for units in (1, 5):
        strategy = two_cpus()
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
            model.compile("sgd", "mse")
        model.fit(np.ones((4, 3)), np.ones((4, units)), verbose=0)


@pytest.mark.filterwarnings("ignore:MultiWorkerMirroredStrategy found no TF_CONFIG")
@pytest.mark.parametrize("first", ["tfdist's", "TensorFlow's"])
def test_nor_with_those_of_tensorflow(first):
    def total(strategy, size):
        strategy.run(lambda: None)
        values = strategy.experimental_distribute_values_from_function(lambda _: tf.ones([size]))
        return strategy.reduce("SUM", values, axis=None).numpy().tolist()

    made = [
        lambda: tfdist.MultiWorkerMirroredStrategy(),
        two_cpus,
        stock_pair,
    ]
    for size, make in enumerate(made if first == "tfdist's" else reversed(made), start=2):
        strategy = make()
        assert total(strategy, size) == [2.0] * size


def test_a_cross_device_ops_of_the_users_is_used():
    class Counting(tf.distribute.ReductionToOneDevice):
        used = 0

        def batch_reduce_implementation(self, *args, **kwargs):
            Counting.used += 1
            return super().batch_reduce_implementation(*args, **kwargs)

        def reduce_implementation(self, *args, **kwargs):
            Counting.used += 1
            return super().reduce_implementation(*args, **kwargs)

    strategy = tfdist.MirroredStrategy(devices.PAIR, cross_device_ops=Counting())

    @tf.function
    def step():
        return strategy.run(
            lambda: strategy.communicator().all_reduce([tf.cast(strategy.replica_id(), tf.float32)])
        )

    (total,) = step()
    assert [float(v) for v in strategy.experimental_local_results(total)] == [1.0, 1.0]
    assert Counting.used > 0


def test_local_devices():
    assert engine.local_device_count() == (2, "CPU")


def test_multi_worker_strategies_use_all_logical_cpus():
    stock = CollectiveAllReduceExtended._initialize_local_devices
    with engine.all_logical_cpus():
        assert tf.distribute.MultiWorkerMirroredStrategy().num_replicas_in_sync == 2
    assert CollectiveAllReduceExtended._initialize_local_devices is stock
    # If this is 2 upstream has learnt it, and `all_logical_cpus` can go.
    assert tf.distribute.MultiWorkerMirroredStrategy().num_replicas_in_sync == 1


def test_workers():
    for strategy in (two_cpus(), tf.distribute.MultiWorkerMirroredStrategy()):
        assert (engine.worker_count(strategy), engine.worker_index(strategy)) == (1, 0)


def test_kinds_of_variables():
    strategy, other = two_cpus(), two_cpus()
    with strategy.scope():
        mirrored = keras.Variable([1.0, 2.0])
        on_read = keras.Variable(0.0, trainable=False, synchronization="on_read", aggregation="sum")
    outside = keras.Variable(1.0)
    assert engine.belongs_to(mirrored, strategy) and engine.belongs_to(on_read, strategy)
    assert not engine.belongs_to(mirrored, other) and not engine.belongs_to(outside, strategy)
    assert engine.is_sync_on_read(on_read.value)
    assert not engine.is_sync_on_read(mirrored.value)
    assert not engine.is_sync_on_read(tf.constant(1.0))
    assert [c.device[-5:] for c in engine.local_components(mirrored.value)] == devices.PAIR
    assert engine.local_components(outside.value) == (outside.value,)
