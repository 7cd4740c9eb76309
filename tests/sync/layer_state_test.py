"""State of layers over replicas, by Keras' own word, beside what NumPy says of it."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from step_cases import keras_step, known, splits
from upstream import two_cpus

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.layer_state import KeptState
from tfdist.sync.merging import merge_by
from tfdist.sync.step import KerasStep


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def new_state(dtype="float64", value=5, merge=None, **options):
    variable = keras.Variable(value, trainable=False, dtype=dtype, name="state", **options)
    if merge is not None:
        merge_by(variable, merge)
    return variable


# name -> (how it is made, what a replica assigns, what comes out of old value, what replicas
# have assigned and their numbers of examples)
def old_plus_sum(old, assigned, examples):
    return old + sum((a - old) * (b > 0) for a, b in zip(assigned, examples))


def mean(old, assigned, examples):
    return np.average(assigned, weights=examples)


def largest(old, assigned, examples):
    return max(a if b > 0 else old for a, b in zip(assigned, examples))


RULES = {
    "undeclared float": ({}, lambda v, x: v.assign(x), mean),
    "undeclared float, half": ({"dtype": "float16"}, lambda v, x: v.assign(x), mean),
    "mean": ({"aggregation": "mean"}, lambda v, x: v.assign(x), mean),
    "mean, added": ({"aggregation": "mean"}, lambda v, x: v.assign_add(x - v), mean),
    "sum": ({"aggregation": "sum"}, lambda v, x: v.assign(x), old_plus_sum),
    "sum, added": ({"aggregation": "sum"}, lambda v, x: v.assign_add(x - v), old_plus_sum),
    "sum of integers": (
        {"aggregation": "sum", "dtype": "int32"},
        lambda v, x: v.assign(tf.cast(x, "int32")),
        old_plus_sum,
    ),
    "added to an integer": (
        {"dtype": "int64"},
        lambda v, x: v.assign_add(tf.cast(x, "int64") - v),
        old_plus_sum,
    ),
    "added to a small integer": (
        {"dtype": "uint8"},
        lambda v, x: v.assign_add(tf.cast(x, "uint8") - v),
        old_plus_sum,
    ),
    "the first's": (
        {"aggregation": "only_first_replica"},
        lambda v, x: v.assign(x),
        lambda old, assigned, examples: assigned[0],
    ),
    "maximum": ({"merge": "max"}, lambda v, x: v.assign(x), largest),
    "maximum of integers": (
        {"merge": "max", "dtype": "int32"},
        lambda v, x: v.assign(tf.cast(x, "int32")),
        largest,
    ),
    "maximum, half": ({"merge": "max", "dtype": "float16"}, lambda v, x: v.assign(x), largest),
    "minimum": (
        {"merge": "min"},
        lambda v, x: v.assign(x),
        lambda old, assigned, examples: -largest(-old, [-a for a in assigned], examples),
    ),
    "a function of all": (
        {"merge": lambda values, examples: tf.reduce_sum(values * examples)},
        lambda v, x: v.assign(x),
        lambda old, assigned, examples: np.dot(assigned, examples),
    ),
    "a constant added to an integer": (
        {"dtype": "int32"},
        lambda v, x: v.assign_add(3),
        lambda old, assigned, examples: old + 3,
    ),
}


@known
@splits
@pytest.mark.parametrize("rule", RULES)
def test_rules(rule, split, known):
    options, assign, expected = RULES[rule]
    assigned = [7.0, 9.0, 4.0, 12.0][: len(split)]

    def program(communicator):
        variable = new_state(**options)
        step = keras_step(communicator, split, known, [variable])
        with active_step.activate(step):
            assign(variable, tf.constant(assigned[communicator.replica], tf.float64))
        extras = step.take_logs({}, [], [])
        step.finish({}, extras, [])
        return float(tf.cast(variable.value, tf.float64))

    right = expected(5.0, assigned, split)
    for value in on_replicas(len(split), program):
        assert value == pytest.approx(right, rel=1e-3 if "half" in rule else 1e-12)


def test_a_replica_keeps_its_own():
    def program(communicator):
        cache = keras.layers.Layer().add_weight(
            shape=(), initializer="zeros", trainable=False, aggregation="none"
        )
        step = keras_step(communicator, (2, 2), True, [cache])
        with active_step.activate(step):
            cache.assign(float(communicator.replica))
        step.finish({}, step.take_logs({}, [], []), [])
        return float(cache.value), communicator.messages

    (first, messages), (second, _) = on_replicas(2, program)
    assert (first, second) == (0.0, 1.0)
    assert messages in ([], [[]])


class Silent:
    num_replicas = 2


def told_of(change, **options):
    """The warnings where a step is traced that changes a state, twice."""
    told = []
    variable = new_state(**options)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None])])
    def function(x):
        step = KerasStep(Silent(), tf.constant(0), tf.shape(x)[0], tf.constant(8), [variable])
        with warnings.catch_warnings(record=True) as caught, active_step.activate(step):
            warnings.simplefilter("always")
            change(variable, x)
            change(variable, x)
        told.extend(str(warning.message) for warning in caught)
        return tf.zeros([])

    function.get_concrete_function()
    return told


WARNINGS = {
    "a counter": (lambda v, x: v.assign_add(tf.reduce_sum(x)), {"dtype": "float32"}, "sum"),
    "an average": (
        lambda v, x: v.assign_add(0.1 * (tf.reduce_mean(x) - v)),
        {"dtype": "float32"},
        "average",
    ),
    "a label": (
        lambda v, x: v.assign(tf.cast(tf.reduce_max(x), "int32")),
        {"dtype": "int32"},
        "only_first_replica",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_cannot_be_told_is_warned_of_once_with_what_to_write(name):
    change, options, word = WARNINGS[name]
    (text,) = told_of(change, **options)
    assert "'state'" in text and "add_weight" in text and word in text


QUIET = {
    "a declared counter": (lambda v, x: v.assign_add(tf.reduce_sum(x)), {"aggregation": "sum"}),
    "a declared average": (lambda v, x: v.assign_add(tf.reduce_mean(x)), {"aggregation": "mean"}),
    "an average by assign": (lambda v, x: v.assign(0.9 * v + 0.1 * tf.reduce_mean(x)), {}),
    "steps": (lambda v, x: v.assign_add(1.0), {}),
    "whole steps": (lambda v, x: v.assign_add(1), {"dtype": "int32"}),
    "examples": (lambda v, x: v.assign_add(tf.shape(x)[0]), {"dtype": "int32"}),
    "examples by assign": (lambda v, x: v.assign(v + tf.shape(x)[0]), {"dtype": "int32"}),
    "a constant": (lambda v, x: v.assign(3), {"dtype": "int32"}),
    "a maximum": (lambda v, x: v.assign_add(tf.reduce_max(x)), {"merge": "max"}),
    "a whole maximum": (
        lambda v, x: v.assign(tf.cast(tf.reduce_max(x), "int32")),
        {"dtype": "int32", "merge": "max"},
    ),
}


@pytest.mark.parametrize("name", QUIET)
def test_what_is_right_is_not_warned_of(name):
    change, options = QUIET[name]
    assert told_of(change, **{"dtype": "float32", **options}) == []


def test_local_state_agrees_where_models_do():
    """Two replicas, two steps alone, a synchronisation, a step, and a look at the agreement."""
    values = np.array([[1.0, 4.0, 2.0], [3.0, 8.0, 7.0]])  # by replica and step
    examples = np.array([[3, 1, 2], [1, 0, 2]])

    def program(communicator):
        r = communicator.replica
        mean, count = new_state(value=0.0), new_state("int32", 10)
        kept = KeptState([mean, count])
        seen = []
        for i in range(3):
            before = kept.read()
            step = KerasStep(
                communicator, tf.constant(r), tf.constant(examples[r, i]), None, [count]
            )
            with active_step.activate(step):
                mean.assign(tf.constant(values[r, i]))
                count.assign_add(tf.constant(examples[r, i] or 99, tf.int32))
            kept.end_step(tf.constant(examples[r, i]), before, step._state)
            seen.append((float(mean.value), int(count.value)))
            if i == 1:
                kept.synchronize(communicator)
                seen.append((float(mean.value), int(count.value)))
        kept.assign_agreed(communicator)
        seen.append((float(mean.value), int(count.value)))
        return seen

    first, second = on_replicas(2, program)
    assert first[:2] == [(1.0, 13), (4.0, 14)]
    assert second[:2] == [(3.0, 11), (3.0, 11)]  # its second step had no examples
    agreed = np.average([4.0, 3.0], weights=[4, 1])
    assert first[2] == second[2] == (pytest.approx(agreed, rel=1e-9), 15)
    assert [first[3][1], second[3][1]] == [17, 17]
    assert first[4] == second[4] == (pytest.approx(4.5, rel=1e-9), 19)


def test_a_local_range_agrees_where_models_do():
    values = np.array([[1.0, 4.0, 9.0], [3.0, 8.0, 7.0]])  # by replica and step

    def program(communicator):
        r, seen = communicator.replica, []
        largest, weighed = new_state(value=2.0, merge="max"), new_state(value=0.0, merge=by_count)
        kept = KeptState([largest, weighed])
        for i in range(3):
            examples, before = tf.constant(0 if (r, i) == (1, 1) else r + 1), kept.read()
            step = KerasStep(communicator, tf.constant(r), examples, None, [largest, weighed])
            with active_step.activate(step):
                for state in (largest, weighed):
                    state.assign(tf.maximum(state.value, tf.constant(values[r, i])))
            kept.end_step(examples, before, step._state)
            if i == 1:
                kept.synchronize(communicator)
            seen.append((float(largest.value), float(weighed.value)))
        kept.assign_agreed(communicator)
        return [*seen, (float(largest.value), float(weighed.value))]

    def by_count(values, examples):
        return tf.reduce_sum(values * examples)

    first, second = on_replicas(2, program)
    assert (first[0], second[0]) == ((2.0, 1.0), (3.0, 3.0))
    # The second replica's second step had no examples: 2 and 2 have been seen.
    assert first[1] == second[1] == (4.0, 2 * 4.0 + 2 * 3.0)
    assert (first[2], second[2]) == ((9.0, 14.0), (7.0, 14.0))
    assert first[3] == second[3] == (9.0, 1 * 14.0 + 2 * 14.0)


@pytest.mark.parametrize("aggregation, expected", [("sum", 3.0), ("mean", 1.5)])
def test_a_custom_loop_aggregates_as_tf_distribute(aggregation, expected):
    strategy = two_cpus()
    with strategy.scope():
        variable = keras.Variable(0.0, trainable=False, aggregation=aggregation)

    @tf.function
    def step():
        def on_replica():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            variable.assign(1.0 + tf.cast(replica, tf.float32))

        strategy.run(on_replica)

    step()
    assert [float(part) for part in variable.value.values] == [expected] * 2


def test_a_counter_that_the_model_does_not_know_of():
    def program(communicator):
        variable = new_state("int32", 5)
        step = keras_step(communicator, (3, 1))  # without a list of variables
        with active_step.activate(step):
            variable.assign_add(tf.constant([3, 1][communicator.replica]))
        step.finish({}, step.take_logs({}, [], []), [])
        return int(variable.value)

    assert on_replicas(2, program) == [9, 9]
