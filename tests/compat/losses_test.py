import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.losses import loss as loss_module
from keras.src.trainers import compile_utils
from simulated import on_replicas
from upstream import original, require, require_parameters

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.step import KerasStep, Step


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require(
        loss_module,
        "reduce_weighted_values",
        "scale_loss_for_distribution",
        "unscale_loss_for_distribution",
        "squeeze_or_expand_to_same_rank",
    )
    require_parameters(
        loss_module.reduce_weighted_values,
        *("values", "sample_weight", "mask", "reduction", "dtype"),
    )
    require_parameters(compile_utils.CompileLoss.call, "self", "y_true", "y_pred", "sample_weight")
    require(compile_utils.CompileLoss(loss="mse"), "_metrics")


rng = np.random.default_rng(2)
VALUES = {1: rng.normal(size=12), 2: rng.normal(size=(12, 5))}
ROWS = np.linspace(0.1, 3.0, 12)
# The mask differs from example to example: replicas have other numbers of steps.
MASKS = {1: np.arange(12) % 5 > 0, 2: np.arange(5) <= np.arange(12)[:, None] % 6}
CASES = [
    pytest.param(rank, weight, mask, reduction, id=f"rank {rank}{weight}{mask} {reduction}")
    for reduction in ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum")
    for rank, weight, mask in [
        (1, "", ""),
        (2, "", ""),
        (1, " weights", ""),
        (2, " weights", ""),
        (2, " weights a step", ""),
        (1, "", " mask"),
        (2, "", " mask"),
        (1, " weights", " mask"),
        (2, " weights", " mask"),
        (2, " weights a step", " mask"),
    ]
]


def arguments(rank, weight, mask, reduction):
    weights = {
        "": None,
        " weights": ROWS if rank == 1 else ROWS[:, None],
        " weights a step": ROWS[:, None] * np.arange(1.0, 6.0),
    }
    return {
        "values": VALUES[rank],
        "sample_weight": weights[weight],
        "mask": MASKS[rank] if mask else None,
        "reduction": reduction,
        "dtype": "float64",
    }


def rows_of(call, rows):
    return {k: v[rows] if isinstance(v, np.ndarray) else v for k, v in call.items()}


@pytest.mark.parametrize("rank, weight, mask, reduction", CASES)
def test_without_a_step_and_in_a_custom_loop_it_is_the_original(rank, weight, mask, reduction):
    call = arguments(rank, weight, mask, reduction)
    stock = original(loss_module.reduce_weighted_values)(**call)
    np.testing.assert_array_equal(loss_module.reduce_weighted_values(**call), stock)
    with active_step.activate(Step(Communicator(), tf.constant(0))):
        np.testing.assert_array_equal(loss_module.reduce_weighted_values(**call), stock)
    with active_step.activate(KerasStep(Communicator(1), None, tf.constant(12))):
        np.testing.assert_array_equal(loss_module.reduce_weighted_values(**call), stock)


class Communicator:
    """One that must not be spoken through."""

    def __init__(self, num_replicas=2):
        self.num_replicas = num_replicas


@pytest.mark.parametrize("split", [(6, 6), (11, 1), (12, 0), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("rank, weight, mask, reduction", CASES)
def test_the_weighed_losses_sum_to_that_of_one_process(rank, weight, mask, reduction, split):
    call = arguments(rank, weight, mask, reduction)
    parts = np.split(np.arange(12), np.cumsum(split)[:-1])

    def program(communicator):
        replica = communicator.replica
        rows = parts[replica] if len(parts[replica]) else np.array([11])  # a stand-in
        examples = tf.constant(split[replica], tf.int64)
        step = KerasStep(communicator, tf.constant(replica), examples, tf.constant(12, tf.int64))
        with active_step.activate(step):
            loss = loss_module.reduce_weighted_values(**rows_of(call, rows))
        assert loss.dtype == tf.float64
        return float(loss) * float(step.share())

    stock = original(loss_module.reduce_weighted_values)(**call)
    assert sum(on_replicas(len(split), program)) == pytest.approx(float(stock), rel=1e-12)


def test_scaling_for_distribution_is_left_to_the_step():
    loss = tf.constant(3.0)
    strategy = tf.distribute.MirroredStrategy(devices.PAIR)
    with strategy.scope():
        assert float(loss_module.scale_loss_for_distribution(loss)) == 1.5
        assert float(loss_module.unscale_loss_for_distribution(loss)) == 6.0
        with active_step.activate(Step(Communicator(), tf.constant(0))):
            assert float(loss_module.scale_loss_for_distribution(loss)) == 1.5
        for examples, seen in ((4, 3.0), (0, 0.0)):
            step = KerasStep(Communicator(), tf.constant(0), tf.constant(examples))
            with active_step.activate(step):
                assert float(loss_module.scale_loss_for_distribution(loss)) == 3.0
                # What the loss' metric gets: nothing from a stand-in.
                assert float(loss_module.unscale_loss_for_distribution(loss)) == seen


def test_the_heads_metrics_count_each_global_batch_once():
    heads = {"a": np.arange(12.0)[:, None], "b": np.arange(12.0)[:, None] ** 2}
    split = (7, 4, 1)
    parts = np.split(np.arange(12), np.cumsum(split)[:-1])

    def program(communicator):
        loss = compile_utils.CompileLoss(loss={"a": "mse", "b": "mae"})
        rows = parts[communicator.replica]
        step = KerasStep(
            communicator,
            tf.constant(communicator.replica),
            tf.constant(len(rows)),
            tf.constant(12),
        )
        y = {name: tf.constant(values[rows]) for name, values in heads.items()}
        zeros = {name: tf.zeros_like(values) for name, values in y.items()}
        loss.build(y, zeros)  # as `fit` does before its first step
        with active_step.activate(step):
            loss(y, zeros)
        # `_metrics` are the heads' own again.
        assert all(isinstance(metric, keras.metrics.Mean) for metric in loss.metrics)
        return [[float(v.value) for v in metric.variables] for metric in loss.metrics]

    totals = np.sum(on_replicas(3, program), axis=0)
    expected = [np.mean(heads["a"] ** 2), np.mean(heads["b"])]
    np.testing.assert_allclose(totals[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(totals[:, 1], [1.0, 1.0], rtol=1e-6)
