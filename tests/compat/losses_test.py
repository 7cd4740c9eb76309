import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.losses import loss as loss_module
from keras.src.trainers import compile_utils
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
MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight")
REDUCTIONS = (*MEANS, "sum", "none", None)
CASES = [
    pytest.param(rank, weight, mask, reduction, id=f"rank {rank}{weight}{mask} {reduction}")
    for reduction in REDUCTIONS
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


splits = pytest.mark.parametrize("split", [(6, 6), (11, 1), (12, 0), (5, 4, 3)], ids=str)


@splits
@pytest.mark.parametrize(
    "rank, weight, mask, reduction", [case for case in CASES if case.values[3] in MEANS]
)
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


@pytest.mark.parametrize("reduction", ["sum", "none", None])
def test_a_loss_object_that_is_no_head_gives_the_original(reduction):
    """What the user's own function makes of it, nobody else knows."""

    def program(communicator):
        step = keras_step(communicator, (7, 5))
        y = tf.constant(VALUES[2])
        loss = keras.losses.MeanSquaredError(reduction=reduction, dtype="float64")
        with active_step.activate(step):
            found = loss(y, tf.zeros_like(y))
        return np.array_equal(found, loss(y, tf.zeros_like(y)))

    assert on_replicas(2, program) == [True, True]


def keras_step(communicator, split):
    replica = communicator.replica
    examples = tf.constant(split[replica], tf.int64)
    return KerasStep(communicator, tf.constant(replica), examples, tf.constant(12, tf.int64))


class Twice(keras.losses.Loss):
    """A loss whose `call` averages another loss object's result by hand."""

    def __init__(self, reduction):
        super().__init__(reduction=reduction, dtype="float64")
        self.inner = keras.losses.MeanAbsoluteError(reduction="none", dtype="float64")

    def call(self, y_true, y_pred):
        return 2.0 * self.inner(y_true, y_pred)


def of_reduction(reduction):
    return keras.losses.MeanSquaredError(reduction=reduction, dtype="float64")


def averaged_by_hand(y_true, y_pred):
    per_example = of_reduction("none")(y_true, y_pred)
    return tf.reduce_mean(per_example * y_true[:, 0] ** 2)


def summed_inside(y_true, y_pred):
    return of_reduction("sum")(y_true, y_pred) / tf.cast(tf.shape(y_true)[0], y_true.dtype)


def of_exec():
    """A function that was made by `exec`, which belongs to no module."""
    names = {"tf": tf}
    exec("def loss(y, p):\n    return tf.reduce_mean((y - p) ** 2)", names)
    assert names["loss"].__module__ is None
    return names["loss"]


# name -> heads of a model with one or two outputs
HEADS = {
    "mean": lambda: of_reduction("sum_over_batch_size"),
    "sum": lambda: of_reduction("sum"),
    "none": lambda: of_reduction("none"),
    "averaged by hand": lambda: averaged_by_hand,
    "summed inside": lambda: summed_inside,
    "of exec": of_exec,
    "a loss of a loss, mean": lambda: Twice("sum_over_batch_size"),
    "a loss of a loss, sum": lambda: Twice("sum"),
    "mean and sum": lambda: [of_reduction("mean"), of_reduction("sum")],
    "none and mean": lambda: [of_reduction("none"), of_reduction("mean")],
    "none and sum": lambda: [of_reduction("none"), of_reduction("sum")],
}


@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
@splits
@pytest.mark.parametrize("heads", HEADS)
def test_compiled_heads_give_the_gradient_and_the_logs_of_one_process(heads, split, built):
    keras.config.set_floatx("float64")
    labels = np.concatenate([VALUES[2], VALUES[2] ** 2], axis=1)
    parts = np.split(np.arange(12), np.cumsum(split)[:-1])

    def loss_and_gradient(rows, step=None):
        make = HEADS[heads]()
        several = isinstance(make, list)
        compiled = compile_utils.CompileLoss(make)
        weight = tf.Variable(np.linspace(0.5, 2.0, 5))
        y = tf.constant(labels[rows])
        y = [y[:, :5], y[:, 5:]] if several else y[:, :5]
        if built:
            compiled.build(y, tf.nest.map_structure(tf.zeros_like, y))
        with tf.GradientTape() as tape:
            predictions = tf.nest.map_structure(lambda one: one * weight, y)
            loss = compiled(y, predictions)
            # As Keras' train step does.
            logged = loss_module.unscale_loss_for_distribution(loss)
            weighed = loss if step is None else step.weigh_loss(loss, None)
        examples = float(len(rows))
        tracker = keras.metrics.Mean(dtype="float64")
        tracker.update_state(logged, sample_weight=examples)
        sums = [float(v.value) for metric in (tracker, *compiled.metrics) for v in metric.variables]
        return tape.gradient(weighed, weight).numpy(), np.array(sums)

    def program(communicator):
        rows = parts[communicator.replica]
        step = keras_step(communicator, split)
        with active_step.activate(step):
            gradient, sums = loss_and_gradient(rows if len(rows) else np.array([11]), step)
        return gradient, sums if len(rows) else np.zeros_like(sums)  # see `keeping_if_empty`

    expected, logged = loss_and_gradient(np.arange(12))
    found = on_replicas(len(split), program)
    np.testing.assert_allclose(sum(gradient for gradient, _ in found), expected, rtol=1e-12)
    sums = sum(sums for _, sums in found)
    np.testing.assert_allclose(sums[::2] / sums[1::2], logged[::2] / logged[1::2], rtol=1e-12)
    if heads in ("none", "none and mean", "none and sum"):
        np.testing.assert_allclose(sums[:2], logged[:2], rtol=1e-12)  # their weight, too


def test_scaling_for_distribution_is_left_to_the_step():
    loss = tf.constant(3.0)
    strategy = stock_pair()
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
