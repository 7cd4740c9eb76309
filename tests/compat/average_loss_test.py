import contextlib

import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from upstream import original, require, require_parameters, stock_pair

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.loop_step import Step
from tfdist.sync.step import KerasStep


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require(tf.nn, "compute_average_loss", "scale_regularization_loss")
    require_parameters(
        tf.nn.compute_average_loss, "per_example_loss", "sample_weight", "global_batch_size"
    )
    require_parameters(tf.nn.scale_regularization_loss, "regularization_loss")


LOSSES, WEIGHTS = np.linspace(0.1, 4.0, 12), np.linspace(2.0, 0.0, 12)


@pytest.mark.parametrize("split", [(6, 6), (11, 1), (12, 0), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("size", [None, 12, 16])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_in_a_step_of_fit_the_weighed_losses_sum_to_that_of_one_process(split, size, weights):
    parts = np.split(np.arange(12), np.cumsum(split)[:-1])

    def program(communicator):
        replica = communicator.replica
        rows = parts[replica] if len(parts[replica]) else np.array([11])  # a stand-in
        examples = tf.constant(split[replica], tf.int64)
        step = KerasStep(communicator, tf.constant(replica), examples, tf.constant(12, tf.int64))
        with active_step.activate(step):
            of_rows = None if weights is None else weights[rows]
            loss = tf.nn.compute_average_loss(LOSSES[rows], of_rows, size)
            regularization = tf.nn.scale_regularization_loss(tf.constant([1.0, 2.0], tf.float64))
            return float(step.weigh_loss(loss + regularization, None))

    tolerance = 1e-12 if weights is None else 1e-6  # TensorFlow weighs in float32
    weighed = LOSSES if weights is None else LOSSES * weights
    expected = weighed.sum() / (size or 12) + 3.0
    assert sum(on_replicas(len(split), program)) == pytest.approx(expected, rel=tolerance)


def test_elsewhere_they_are_the_originals():
    def calls(average, scaled):
        return average(LOSSES, global_batch_size=16), scaled(tf.constant([1.0, 2.0]))

    mine = tf.nn.compute_average_loss, tf.nn.scale_regularization_loss
    stock = [original(function) for function in mine]

    class Communicator:
        num_replicas = 2

    strategy = stock_pair()

    def on_replica(functions, step=None):
        with contextlib.nullcontext() if step is None else active_step.activate(step):
            return calls(*functions)

    expected = strategy.run(on_replica, [stock])
    assert strategy.experimental_local_results(expected[1])[0] == 1.5
    for step in (None, Step(Communicator(), tf.constant(0))):
        found = strategy.run(on_replica, [mine, step])
        for one, other in zip(found, expected):
            assert [*map(float, one.values)] == [*map(float, other.values)]
