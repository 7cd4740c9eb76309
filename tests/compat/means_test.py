"""One number for a batch counts as in one process, however the batch was split."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from upstream import require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.loop_step import Step
from tfdist.sync.step import KerasStep

LOSSES = np.linspace(0.1, 4.0, 12)


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require_parameters(keras.metrics.Mean.update_state, "self", "values", "sample_weight")


@pytest.mark.parametrize("known", [True, False], ids=["B is known", "B is asked for"])
@pytest.mark.parametrize("split", [(6, 6), (11, 1), (12, 0), (5, 4, 3)], ids=str)
def test_a_mean_of_each_part_becomes_that_of_the_batch(split, known):
    parts = np.split(LOSSES, np.cumsum(split)[:-1])

    def program(communicator):
        replica = communicator.replica
        examples = tf.constant(split[replica], tf.int64)
        whole = tf.constant(12, tf.int64) if known else None
        step = KerasStep(communicator, tf.constant(replica), examples, whole)
        metric = keras.metrics.Mean(dtype="float64")
        with active_step.activate(step):
            metric.update_state(tf.reduce_mean(parts[replica]))  # of no example: NaN
        return float(metric.total), float(metric.count)

    totals, counts = zip(*on_replicas(len(split), program))
    assert sum(totals) == pytest.approx(LOSSES.mean(), rel=1e-12)
    assert sum(counts) == pytest.approx(1.0, rel=1e-12)


def test_examples_weights_and_custom_loops_stay_as_they_are():
    class Communicator:
        num_replicas = 2

    counted = KerasStep(Communicator(), tf.constant(0), tf.constant(3), tf.constant(12))
    for step, arguments, count in [
        (counted, ([1.0, 2.0],), 2.0),
        (counted, (1.0, 5.0), 5.0),
        (Step(Communicator(), tf.constant(0)), (1.0,), 1.0),
        (counted, (1.0,), 0.25),
    ]:
        metric = keras.metrics.Mean()
        with active_step.activate(step):
            metric.update_state(*arguments)
        assert float(metric.count) == count


class Sometimes(keras.Model):
    """Tracks the loss of some steps only."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.tracker = keras.metrics.Mean(name="tracked")
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, name="count")

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = keras.ops.mean(keras.ops.square(y - y_pred))
        self.count.assign_add(1)

        def track():
            self.tracker.update_state(loss)
            return 0

        tf.cond(tf.convert_to_tensor(self.count.value) % 2 == 0, track, lambda: 0)
        return loss


def test_in_a_branch_too():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(18, 3)), random.normal(size=(18, 1))
    found = []
    for strategy in (tf.distribute.get_strategy(), two_cpus()):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = Sometimes()
            model.compile(keras.optimizers.SGD(0.1))
        found.append(model.fit(x, y, 5, epochs=2, shuffle=False, verbose=0).history["tracked"])
    np.testing.assert_allclose(*found, rtol=1e-5)
