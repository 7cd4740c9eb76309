"""The bytes and seconds that a communicator counts."""

import time

import devices
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist.sync import communicator as communicator_module
from tfdist.sync.communicator import Traffic


def counted(program):
    """What `program(communicator)` sends, by a `Traffic`: bytes and seconds of each replica."""
    strategy = tfdist.MirroredStrategy(devices.PAIR)
    with strategy.scope():
        counters = [
            tf.Variable(
                tf.zeros([], tf.float64),
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
            )
            for _ in range(2)
        ]

    @tf.function
    def step():
        def on_replica():
            program(strategy.communicator(Traffic(*counters)))
            return tf.zeros([])

        return strategy.run(on_replica)

    step()
    return [[float(part) for part in counter.values] for counter in counters]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (lambda c: c.all_reduce([tf.ones([3, 5]), tf.ones([], tf.float64)]), 60 + 8),
        (lambda c: c.all_gather([tf.ones([3, 5]), tf.ones([7], tf.int8)]), 60 + 7),
        (lambda c: c.all_to_all([tf.ones([2, 5])]), 40),
        (lambda c: c.group_sum([tf.ones([5])], tf.constant([0, 0])), 20),
        (lambda c: [c.all_reduce([tf.ones([5])]) for _ in range(3)], 60),
        (
            lambda c: c.all_reduce(
                [tf.IndexedSlices(tf.ones([4, 2]), tf.zeros([4], tf.int64), tf.constant([9, 2]))]
            ),
            4 * 2 * 4 + 4 * 8 + 2 * 4,
        ),
        (lambda c: c.all_reduce([]), 0),
    ],
    ids=["all_reduce", "all_gather", "all_to_all", "group_sum", "three", "sparse", "nothing"],
)
def test_traffic_counts_the_bytes_of_each_replica(program, expected):
    sent, seconds = counted(program)
    assert sent == [expected, expected]
    assert all(np.isfinite(seconds)) and (min(seconds) > 0) == (expected > 0)


def test_traffic_counts_in_the_branch_that_is_taken():
    def program(communicator):
        for condition in (True, False):
            tf.cond(
                tf.constant(condition),
                lambda: communicator.all_reduce([tf.ones([5])])[0],
                lambda: tf.zeros([5]),
            )

    assert counted(program)[0] == [20, 20]


def test_seconds_begin_before_the_collective_and_end_behind_it(monkeypatch):
    """However long it takes until a clock is read: a quick collective waits for it."""
    happened = []

    class SlowClock:
        def perf_counter(self):
            time.sleep(0.2)
            happened.append("clock")
            return time.perf_counter()

    def collective(values):
        def note(value):
            happened.append("collective")
            return value

        return [tf.numpy_function(note, [value], value.dtype) for value in values]

    monkeypatch.setattr(communicator_module, "time", SlowClock())
    sent, seconds = (tf.Variable(tf.zeros([], tf.float64)) for _ in range(2))
    traffic = Traffic(sent, seconds)

    @tf.function
    def step(value):
        return traffic.count(collective, [value], 1.0)

    step(tf.ones([5]))
    assert happened == ["clock", "collective", "clock"]
    assert float(seconds) > 0.2 and float(sent) == 20
