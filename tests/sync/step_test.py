"""The tail of the step, on replicas that are threads and sum with NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.step import KerasStep, Step

SPLITS = {
    "equal": (4, 4),
    "unequal": (3, 1),
    "one is empty": (5, 0),
    "all but one are empty": (0, 2, 0),
    "four": (3, 3, 2, 2),
}
splits = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
known = pytest.mark.parametrize("known", [True, False], ids=["B known", "B unknown"])

OPTIMIZER, ANOTHER = object(), object()  # a step only asks whether they are the same

rng = np.random.default_rng(5)
# What each example contributes to the gradient of (2, 3) weights, to a scalar, ...
EXAMPLES = rng.normal(size=(10, 2, 3)) * np.linspace(0.1, 5, 10)[:, None, None]


def keras_step(communicator, split, known=True):
    replica = communicator.replica
    return KerasStep(
        communicator,
        tf.constant(replica),
        tf.constant(split[replica], tf.int64),
        tf.constant(sum(split), tf.int64) if known else None,
    )


def local(split, replica, empty=np.nan):
    """The replica's own mean over its examples; `empty` where it has none."""
    rows = np.split(EXAMPLES[: sum(split)], np.cumsum(split)[:-1])[replica]
    return rows.mean(axis=0) if len(rows) else np.full(EXAMPLES.shape[1:], empty)


def mean(split):
    return EXAMPLES[: sum(split)].mean(axis=0)


# -- custom training loops ----------------------------------------------------


@splits
def test_a_custom_loop_sums(split):
    n = len(split)

    def program(communicator):
        step = Step(communicator, tf.constant(communicator.replica))
        value = EXAMPLES[communicator.replica]
        dense, none, sparse = step.reduce_gradients(
            [
                tf.constant(value),
                None,
                tf.IndexedSlices(tf.constant(value), tf.constant([1, 0]), tf.constant([4, 3])),
            ],
            OPTIMIZER,
        )
        assert none is None
        assert float(step.weigh_loss(tf.constant(3.0), OPTIMIZER)) == 3.0
        assert not step.weighs_examples
        return dense, tf.convert_to_tensor(sparse)

    total = EXAMPLES[:n].sum(axis=0)
    for dense, sparse in on_replicas(n, program):
        np.testing.assert_allclose(dense, total, rtol=1e-14)
        np.testing.assert_allclose(sparse[:2], total[::-1], rtol=1e-14)
        np.testing.assert_array_equal(sparse[2:], 0)


# -- gradients ------------------------------------------------------------------


@known
@splits
def test_gradients_are_the_mean_over_all_examples(split, known):
    def program(communicator):
        step = keras_step(communicator, split, known)
        # As Keras gives them for an empty batch, or for a stand-in: anything.
        gradient = tf.constant(local(split, communicator.replica))
        first, none, second = step.reduce_gradients(
            [gradient, None, 2.0 * gradient[0, 0]], OPTIMIZER
        )
        assert none is None
        return first, second

    results = on_replicas(len(split), program)
    for first, second in results:
        np.testing.assert_allclose(first, mean(split), rtol=1e-13)
        np.testing.assert_allclose(second, 2 * mean(split)[0, 0], rtol=1e-13)
        np.testing.assert_array_equal(first, results[0][0])  # the same bits on all replicas


@known
@pytest.mark.parametrize("empty", [np.nan, np.inf, 7.0])
def test_what_an_empty_replica_computes_does_not_count(known, empty):
    split = (3, 0, 2)

    def program(communicator):
        step = keras_step(communicator, split, known)
        gradient = tf.constant(local(split, communicator.replica, empty))
        return step.reduce_gradients([gradient], OPTIMIZER)[0]

    for gradient in on_replicas(3, program):
        np.testing.assert_allclose(gradient, mean(split), rtol=1e-13)


@known
def test_a_nan_of_an_example_that_counts_is_not_hidden(known):
    def program(communicator):
        value = np.nan if communicator.replica == 1 else 1.0
        step = keras_step(communicator, (3, 1), known)
        return step.reduce_gradients([tf.constant([value, 2.0])], OPTIMIZER)[0]

    for gradient in on_replicas(2, program):
        np.testing.assert_array_equal(np.isnan(gradient), [True, False])


@known
@splits
def test_sparse_gradients(split, known):
    n = len(split)
    indices = [[0, 2], [2, 2], [5, 0], [1, 2]]

    def program(communicator):
        replica = communicator.replica
        step = keras_step(communicator, split, known)
        slices = tf.IndexedSlices(
            tf.constant(local(split, replica)),
            tf.constant(indices[replica]),
            tf.constant([6, 3], tf.int64),
        )
        gradients = [slices, tf.constant(local(split, replica))]
        sparse, dense = step.reduce_gradients(gradients, OPTIMIZER)
        assert isinstance(sparse, tf.IndexedSlices)
        return tf.convert_to_tensor(sparse), dense

    expected = np.zeros((6, 3))
    for replica in range(n):
        if split[replica]:
            weighed = split[replica] / sum(split) * local(split, replica)
            np.add.at(expected, indices[replica], weighed)
    for sparse, dense in on_replicas(n, program):
        np.testing.assert_allclose(sparse, expected, rtol=1e-13)
        np.testing.assert_allclose(dense, mean(split), rtol=1e-13)


@known
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_does_not_overflow_on_the_way(dtype, known):
    # 60,000 examples times a gradient of 3: far past the 65,504 of float16.
    split = (40_000, 20_000)

    def program(communicator):
        step = keras_step(communicator, split, known)
        value = tf.cast(tf.constant([3.0, 1e-3]) * (communicator.replica + 1), dtype)
        single = tf.constant([3.0], tf.float32)
        half, full = step.reduce_gradients([value, single], OPTIMIZER)
        assert half.dtype == dtype and full.dtype == tf.float32
        return tf.cast(half, tf.float32)

    for gradient in on_replicas(2, program):
        # (2/3) 3 + (1/3) 6 = 4
        np.testing.assert_allclose(
            gradient, [4.0, 4e-3 / 3], rtol=2e-3 if dtype[0] == "f" else 2e-2
        )


def test_gradients_of_several_dtypes_keep_them():
    def program(communicator):
        step = keras_step(communicator, (1, 3))
        values = [tf.cast(communicator.replica * 4, d) for d in ("float32", "float64", "float16")]
        return step.reduce_gradients(values, OPTIMIZER)

    for replica in on_replicas(2, program):
        assert [value.dtype.name for value in replica] == ["float32", "float64", "float16"]
        assert [float(value) for value in replica] == [3.0, 3.0, 3.0]


def test_gradients_go_in_one_call():
    calls = []

    def program(communicator):
        step = keras_step(communicator, (2, 1), known=False)
        step.reduce_gradients([tf.constant(1.0), tf.constant([2.0]), None], OPTIMIZER)
        calls.append(len(communicator.messages))

    on_replicas(2, program)
    assert calls == [1, 1]


def test_one_replica_sends_nothing():
    def program(communicator):
        step = KerasStep(communicator, None, tf.constant(3), None)
        gradients = [tf.constant(1.0), None]
        assert step.reduce_gradients(gradients, OPTIMIZER) is gradients
        assert step.finish({"loss": 1.0}, [], None) == {"loss": 1.0}
        assert float(step.weigh_loss(tf.constant(2.0), OPTIMIZER)) == 2.0
        return communicator.messages

    assert on_replicas(1, program) == [[]]


# -- shares, and denominators that are not the number of examples ---------------


@known
@splits
def test_shares(split, known):
    def program(communicator):
        step = keras_step(communicator, split, known)
        assert float(step.global_examples()) == sum(split)
        return float(step.share()), float(step.examples_ratio())

    for (share, ratio), examples in zip(on_replicas(len(split), program), split):
        assert share == examples / sum(split)
        assert ratio == (pytest.approx(sum(split) / examples) if examples else 0.0)


@known
@splits
def test_denominators(split, known):
    """Losses with a mask: the mean over all unmasked steps of the global batch."""
    lengths = np.array([1, 7, 3, 2, 6, 1, 4, 5, 2, 3])
    losses = np.arange(10.0) ** 2
    parts = np.split(np.arange(sum(split)), np.cumsum(split)[:-1])

    def program(communicator):
        rows = parts[communicator.replica]
        denominator = lengths[rows].sum() if len(rows) else 99  # a stand-in's
        step = keras_step(communicator, split, known)
        ratio = float(step.denominator_ratio(tf.constant(float(denominator))))
        own_mean = (losses * lengths)[rows].sum() / denominator
        return own_mean * ratio * float(step.share())

    rows = np.arange(sum(split))
    expected = np.average(losses[rows], weights=lengths[rows])
    assert sum(on_replicas(len(split), program)) == pytest.approx(expected, rel=1e-12)


def test_a_denominator_of_zero_everywhere_is_no_nan():
    def program(communicator):
        return float(keras_step(communicator, (2, 2)).denominator_ratio(tf.constant(0.0)))

    assert on_replicas(2, program) == [0.0, 0.0]


def test_a_denominator_has_no_gradient():
    def program(communicator):
        step = keras_step(communicator, (2, 2))
        x = tf.constant(3.0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = step.denominator_ratio(x)
        return tape.gradient(y, x)

    assert on_replicas(2, program) == [None, None]


# -- the weight on the loss, not on the gradients -------------------------------


def weighed_step(communicator, split, known):
    """A step, its weighed loss, and what the tape then gives for the gradient."""
    replica = communicator.replica
    step = keras_step(communicator, split, known)
    if not known:
        step.note_forward_collective()
    loss = tf.constant(float(local(split, replica)[0, 0]))
    weighed = step.weigh_loss(loss, OPTIMIZER)
    weight = split[replica] / sum(split)
    return step, weighed, weight * tf.constant(local(split, replica, empty=0.0))


@known
@splits
def test_losses_are_weighed_by_examples(split, known):
    def program(communicator):
        step, weighed, gradient = weighed_step(communicator, split, known)
        reduced, none = step.reduce_gradients([gradient, None], OPTIMIZER)
        assert none is None
        return float(weighed), reduced

    results = on_replicas(len(split), program)
    assert sum(weighed for weighed, _ in results) == pytest.approx(mean(split)[0, 0], rel=1e-5)
    for _, reduced in results:
        np.testing.assert_allclose(reduced, mean(split), rtol=1e-13)


def test_without_b_the_loss_is_left_alone():
    def program(communicator):
        step = keras_step(communicator, (3, 1), known=False)
        loss = tf.constant(1.0)
        assert step.weigh_loss(loss, OPTIMIZER) is loss
        assert communicator.messages == []

    on_replicas(2, program)


def test_an_optimizer_whose_loss_was_not_weighed_has_its_gradients_weighed():
    split = (3, 1)

    def program(communicator):
        step, _, weighed = weighed_step(communicator, split, known=True)
        raw = tf.constant(local(split, communicator.replica))
        (other,) = step.reduce_gradients([raw], ANOTHER)
        return step.reduce_gradients([weighed], OPTIMIZER)[0], other

    for replica in on_replicas(2, program):
        for gradient in replica:
            np.testing.assert_allclose(gradient, mean(split), rtol=1e-13)


def test_half_precision_gradients_of_a_weighed_loss_are_summed_in_single():
    def program(communicator):
        step = keras_step(communicator, (1, 1))
        step.weigh_loss(tf.constant(1.0), OPTIMIZER)
        value = tf.constant([1.0 if communicator.replica == 0 else 2.0**-12], tf.float16)
        (reduced,) = step.reduce_gradients([value], OPTIMIZER)
        assert reduced.dtype == tf.float16
        return communicator.messages

    assert on_replicas(2, program)[0] == [["float32"]]


# -- the end of the step --------------------------------------------------------


class Mean:
    """A metric of sums, as Keras' own are: each replica adds up its part."""

    def __init__(self):
        self.total = keras.Variable(0.0, trainable=False, dtype="float32", name="total")
        self.count = keras.Variable(0.0, trainable=False, dtype="float32", name="count")
        self.variables = [self.total, self.count]

    def update(self, values):
        self.total.assign_add(float(np.sum(values)))
        self.count.assign_add(float(len(values)))

    def result(self):
        return keras.ops.divide_no_nan(self.total, self.count)


def rows_of(split, replica):
    return np.split(np.arange(sum(split)), np.cumsum(split)[:-1])[replica]


@known
@splits
def test_finish_makes_metrics_global_and_averages_other_logs(split, known):
    values = np.linspace(-3, 8, 10)

    def program(communicator):
        rows = rows_of(split, communicator.replica)
        step = keras_step(communicator, split, known)
        metric = Mean()
        metric.update(values[rows])
        own = np.float64(values[rows].mean()) if len(rows) else np.float64(np.nan)
        logs = {
            "metric": metric.result(),  # the replica's own: to be replaced
            "mine": tf.constant(own),
            "nested": [tf.constant([own, 1.0]), tf.constant(communicator.replica)],
        }
        called = []

        def compute():
            called.append(True)
            return {"metric": metric.result(), "unasked": 1.0}

        out = step.finish(logs, metric.variables, compute)
        assert called == [True]
        # The replica's own state stays its own: the next step adds to it.
        assert float(metric.count.value) == len(rows)
        return out

    everyone = values[: sum(split)]
    position = np.average(np.arange(len(split)), weights=split)
    for logs in on_replicas(len(split), program):
        assert list(logs) == ["metric", "mine", "nested"]
        np.testing.assert_allclose(logs["metric"], everyone.mean(), rtol=1e-6)
        np.testing.assert_allclose(logs["mine"], everyone.mean(), rtol=1e-13)
        np.testing.assert_allclose(logs["nested"][0], [everyone.mean(), 1.0], rtol=1e-13)
        np.testing.assert_allclose(logs["nested"][1], position, rtol=1e-6)  # integers, too


@known
@splits
def test_finish_averages_the_state_that_layers_assigned(split, known):
    def program(communicator):
        replica = communicator.replica
        step = keras_step(communicator, split, known)
        mean_of_layer = keras.Variable(np.zeros((2, 3)), trainable=False, dtype="float64")
        half = keras.Variable(0.0, trainable=False, dtype="float32")
        untouched = keras.Variable(float(replica), trainable=False, dtype="float32")
        counter = keras.Variable(0, trainable=False, dtype="int32")
        state = tf.constant(local(split, replica))
        for variable, value in ((mean_of_layer, state), (half, state[0, 0]), (counter, replica)):
            variable.assign(value)
            step.note_assignment(variable)
        step.note_assignment(half)  # twice in one step
        logs = step.finish({"loss": tf.constant(float(replica))}, [], dict)
        return mean_of_layer, half, untouched, counter, logs["loss"]

    losses = np.average(np.arange(len(split)), weights=split)
    for replica, results in enumerate(on_replicas(len(split), program)):
        mean_of_layer, half, untouched, counter, loss = results
        np.testing.assert_allclose(mean_of_layer.value, mean(split), rtol=1e-13)
        np.testing.assert_allclose(half.value, mean(split)[0, 0], rtol=1e-6)
        assert float(untouched.value) == replica
        assert int(counter.value) == replica
        np.testing.assert_allclose(loss, losses, rtol=1e-6)


def test_finish_leaves_the_state_of_metrics_to_the_metrics():
    def program(communicator):
        step = keras_step(communicator, (1, 1))
        variable = keras.Variable(
            float(communicator.replica), trainable=False, synchronization="on_read"
        )
        step.note_assignment(variable)
        step.finish({}, [], dict)
        return float(variable.value)

    assert on_replicas(2, program) == [0.0, 1.0]


def test_finish_sends_one_message_and_knows_other_logs_than_dicts():
    def program(communicator):
        step = keras_step(communicator, (1, 3))
        metric = Mean()
        logs = step.finish(
            (tf.constant(float(communicator.replica)), tf.constant([True, False])),
            metric.variables,
            lambda: {"metric": metric.result()},
        )
        assert isinstance(logs, tuple)
        assert len(communicator.messages) == 1
        return logs

    for number, flags in on_replicas(2, program):
        assert float(number) == 0.75
        np.testing.assert_array_equal(flags, [1.0, 0.0])


@splits
def test_metrics_keep_their_state_where_no_example_counts(split):
    def program(communicator):
        step = keras_step(communicator, split)
        metric = Mean()
        metric.update([1.0, 5.0])
        with step.keeping_if_empty(metric.variables):
            metric.update([np.nan] if split[communicator.replica] == 0 else [3.0])
        return float(metric.total.value), float(metric.count.value)

    for state, examples in zip(on_replicas(len(split), program), split):
        assert state == ((9.0, 3.0) if examples else (6.0, 2.0))


def test_zero_if_empty():
    def program(communicator):
        step = keras_step(communicator, (2, 0))
        return step.zero_if_empty(tf.constant([np.nan, 2.0])).numpy()

    counts, empty = on_replicas(2, program)
    np.testing.assert_array_equal(counts, [np.nan, 2.0])
    np.testing.assert_array_equal(empty, [0.0, 0.0])
