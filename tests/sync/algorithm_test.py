"""What all algorithms have in common: their whole state is what `init` returned."""

import keras
import numpy as np
import pytest
import sync_oracle as oracle
import sync_replicas
import tensorflow as tf

import tfdist
from tfdist.sync.algorithm import variables_of
from tfdist.sync.diloco import DiLoCo
from tfdist.sync.local_sgd import LocalSGD
from tfdist.sync.partial_sync import PartialSync
from tfdist.sync.sync_sgd import SyncSGD

ALGORITHMS = {
    "all-reduce": SyncSGD,
    "compressed": lambda: SyncSGD(tfdist.gradient_compression.TopK(0.5, min_elements=1)),
    "local": lambda: LocalSGD(2, slow_momentum=0.5),
    "partial": lambda: PartialSync(2, 3),
    "diloco": lambda: DiLoCo(3, fragments=2),
    "compressed diloco": lambda: DiLoCo(
        2, compressor=tfdist.gradient_compression.TopK(0.5, min_elements=1)
    ),
}


@pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
def test_replicas_that_share_an_algorithm_train_as_those_with_their_own(make):
    expected = sync_replicas.train(make, 2, oracle.SGD(0.1))
    shared = make()
    before = dict(vars(shared))
    found = sync_replicas.train(lambda: shared, 2, oracle.SGD(0.1))
    np.testing.assert_array_equal(found.models, expected.models)
    np.testing.assert_array_equal(found.averages, expected.averages)
    assert vars(shared) == before


def test_variables_of_a_state_stand_in_one_order():
    weight = keras.Variable(tf.zeros([3]))
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([weight])
    step, error = tf.Variable(0), tf.Variable([1.0])
    state = {"step": [step], "a": {"z": [error], "b": [weight]}, "optimizers": [optimizer]}
    found = variables_of(state)
    expected = [weight.value, error, *(v.value for v in optimizer.variables), step]
    assert len(found) == len(expected) and all(a is b for a, b in zip(found, expected))
    assert variables_of({"compressor": {}}) == []
