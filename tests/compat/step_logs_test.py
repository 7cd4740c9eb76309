"""What the logs of a step are made of; the numbers are checked by `feature_cases.own_steps`."""

import keras
import pytest
import tensorflow as tf
from upstream import two_cpus

from tfdist import compat
from tfdist.compat import active_step, step_logs
from tfdist.sync.step import KerasStep


@pytest.fixture(autouse=True)
def installed():
    compat.install()


class Communicator:
    num_replicas = 2


def metrics():
    with two_cpus().scope():
        found = [keras.metrics.Mean(name="mean"), keras.metrics.Recall(name="recall")]
        found[1].update_state([0, 1], [0, 1])
        for metric in found:
            metric.reset_state()
    return found


def taken_apart(step_function, alike=(), eagerly=False):
    """The `StepLogs` of a step on metrics and data, and the places of its logs by names."""
    mean, recall = metrics()
    found = []

    def on_replica(x):
        step = KerasStep(Communicator(), tf.constant(0), tf.shape(x)[0], tf.constant(8))
        with active_step.activate(step), step_logs.noting_results([mean, recall]):
            logs = step_function(mean, recall, x)
        variables = [*mean.variables, *recall.variables]
        step.take_logs(logs, variables, list(alike))
        found.append((step.logs, sorted(logs)))
        return tf.zeros([])

    def run(x):
        return tf.distribute.get_strategy().run(on_replica, args=(x,))

    if eagerly:
        run(tf.ones([4]))
    else:
        tf.function(run, input_signature=[tf.TensorSpec([None])]).get_concrete_function()
    assert "result" not in vars(mean) and "result" not in vars(recall)
    logs, names = found[0]
    return {
        "derived": {names[place] for place in logs.derived},
        "alike": {names[place] for place in logs.alike},
    }


def logs_of_all_kinds(mean, recall, x):
    before = mean.result()
    mean.update_state(x)
    recall.update_state(x > 0, x)
    return {
        "result": mean.result(),
        "another": recall.result(),
        "computed": 2.0 * mean.result() - recall.result(),
        "state": recall.true_positives + 0.0,
        "old": before,
        "change": mean.result() - before,
        "raw": tf.reduce_mean(x),
        "mixed": mean.result() + tf.reduce_mean(x),
        "constant": tf.constant(3.0),
        "number": 0.5,
    }


def test_in_a_graph():
    assert taken_apart(logs_of_all_kinds) == {
        "derived": {"result", "another", "computed", "state"},
        "alike": {"constant", "number"},
    }


def test_outside_of_a_graph_results_alone_are_known():
    def logs(mean, recall, x):
        mean.update_state(x)
        return {"result": mean.result(), "as Keras does": float(mean.result()), "raw": x[0] + 5}

    assert taken_apart(logs, eagerly=True) == {
        "derived": {"result", "as Keras does"},
        "alike": set(),
    }


def test_what_is_computed_from_a_result_outside_of_a_graph_is_warned_of():
    def logs(mean, recall, x):
        mean.update_state(x)
        recall.update_state(x > 0, x)
        return {"recall": recall.result(), "twice": 2.0 * mean.result()}

    with pytest.warns(UserWarning, match="the results of mean and logs them not as they are"):
        assert taken_apart(logs, eagerly=True)["derived"] == {"recall"}


def test_variables_that_all_replicas_hold_alike():
    with two_cpus().scope():
        rate, other = keras.Variable(0.1), keras.Variable(0.2)

    def logs(mean, recall, x):
        mean.update_state(x)
        return {"rate": rate + 0.0, "both": rate * mean.result(), "other": other + 0.0}

    assert taken_apart(logs, alike=[rate]) == {"derived": {"both"}, "alike": {"rate"}}


def test_a_result_that_is_a_function_of_its_own():
    class Compiled(keras.metrics.Mean):
        @tf.function
        def result(self):
            return super().result() * 2.0

    with two_cpus().scope():
        metric = Compiled()

    def logs(mean, recall, x):
        with step_logs.noting_results([metric]):
            metric.update_state(x)
            return {"twice": metric.result(), "more": metric.result() + 1.0}

    assert taken_apart(logs)["derived"] == {"twice", "more"}


def test_a_result_of_the_users_own_comes_back():
    metric = keras.metrics.Mean()
    own = vars(metric)["result"] = lambda: 7.0
    with step_logs.noting_results([metric]):
        assert metric.result() == 7.0
    assert vars(metric)["result"] is own
