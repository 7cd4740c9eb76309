import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.random.seed_generator import SeedGenerator
from upstream import original, require, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import active_step, random


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require(SeedGenerator, "next")
    require_parameters(SeedGenerator.next, "self", "ordered")
    assert keras.random.SeedGenerator is SeedGenerator


@pytest.mark.parametrize("ordered", [True, False])
def test_without_a_step_it_is_the_original(ordered):
    mine, stock = SeedGenerator(3), SeedGenerator(3)
    for _ in range(3):
        drawn = mine.next(ordered=ordered)
        expected = original(SeedGenerator.next)(stock, ordered=ordered)
        np.testing.assert_array_equal(drawn, expected)


class Step:
    def __init__(self, replica_id):
        self.replica_id = replica_id

    def note_assignment(self, variable, value):
        pass

    def assign(self, variable, value):
        variable.value.assign(value)


def test_a_single_replica_draws_the_original():
    mine, stock = SeedGenerator(3), SeedGenerator(3)
    with active_step.activate(Step(None)):
        np.testing.assert_array_equal(mine.next(), stock.next())


def test_replicas_draw_different_seeds_and_keep_the_same_state():
    generators = [SeedGenerator(3) for _ in range(4)]
    drawn = []
    for replica, generator in enumerate(generators):
        with active_step.activate(Step(tf.constant(replica))):
            drawn.append(tuple(np.asarray(generator.next())))
    assert drawn[0] == tuple(np.asarray(SeedGenerator(3).next()))
    assert len(set(drawn)) == 4
    states = {tuple(np.asarray(generator.state.value)) for generator in generators}
    assert len(states) == 1


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64"])
def test_no_two_replicas_share_a_seed(dtype):
    seed = tf.constant([123456789, 7], dtype)
    mixed = {tuple(random.mix_replica(seed, tf.constant(i)).numpy()) for i in range(2000)}
    assert len(mixed) == 2000
    assert {second for _, second in mixed} == {7}
    assert tuple(random.mix_replica(seed, tf.constant(0)).numpy()) == (123456789, 7)


def test_dropout_masks_differ_between_replicas():
    strategy = two_cpus()
    with strategy.scope():
        dropout = keras.layers.Dropout(0.5, seed=11)
    ones = tf.ones((64,))

    @tf.function
    def step():
        return strategy.run(lambda: dropout(ones, training=True))

    replicas = [strategy.experimental_local_results(step()) for _ in range(2)]
    alone = keras.layers.Dropout(0.5, seed=11)
    for first, second in replicas:
        np.testing.assert_array_equal(first, alone(ones, training=True))  # replica 0: as alone
        assert not np.array_equal(first, second)
    masks = {tuple(np.asarray(mask)) for pair in replicas for mask in pair}
    assert len(masks) == 4
