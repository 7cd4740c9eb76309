"""The end of the step: metrics, logs and the state of layers become global."""

import keras
import numpy as np
import tensorflow as tf
from simulated import on_replicas
from step_cases import keras_step, known, local, mean, splits


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


def finish(step, logs, metrics=()):
    """As a step of `fit` does, whose logs are those of `logs` that are results of `metrics`."""
    variables = [v for metric in metrics for v in metric.variables]
    extras = step.take_logs(logs, variables, [])
    return step.finish(logs, extras, variables)


def result(step, metric):
    """What the step calls to log a metric."""
    value = tf.convert_to_tensor(metric.result())
    step.note_result(metric, lambda: tf.convert_to_tensor(metric.result()), value)
    return value


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
            "metric": result(step, metric),  # the replica's own: to be replaced
            "another name": [result(step, metric)],
            "mine": tf.constant(own),
            "nested": [tf.constant([own, 1.0]), tf.constant(communicator.replica)],
        }
        out = finish(step, logs, [metric])
        # The replica's own state stays its own: the next step adds to it.
        assert float(metric.count.value) == len(rows)
        return out

    everyone = values[: sum(split)]
    position = np.average(np.arange(len(split)), weights=split)
    for logs in on_replicas(len(split), program):
        assert list(logs) == ["metric", "another name", "mine", "nested"]
        np.testing.assert_allclose(logs["metric"], everyone.mean(), rtol=1e-6)
        np.testing.assert_allclose(logs["another name"][0], everyone.mean(), rtol=1e-6)
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
            step.note_assignment(variable, value)
        step.note_assignment(half, state[0, 0])  # twice in one step
        logs = finish(step, {"loss": tf.constant(float(replica))})
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
        step.note_assignment(variable, float(communicator.replica))
        finish(step, {})
        return float(variable.value)

    assert on_replicas(2, program) == [0.0, 1.0]


def test_finish_sends_one_message_and_knows_other_logs_than_dicts():
    def program(communicator):
        step = keras_step(communicator, (1, 3))
        metric = Mean()
        logs = (tf.constant(float(communicator.replica)), tf.constant([True, False]))
        logs = finish(step, logs, [metric])
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
