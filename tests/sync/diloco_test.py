import keras
import numpy as np
import pytest
import sync_oracle as oracle
import sync_replicas
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.diloco import DiLoCo, _parts
from tfdist.sync.local_sgd import LocalSGD

MOMENTUM = oracle.SGD(0.05, momentum=0.9)
FRAGMENTS = [oracle.KERNEL, oracle.BIAS]


def sgd(*args, **kwargs):
    return lambda: keras.optimizers.SGD(*args, **kwargs)


# Keras' outer optimizer, and the oracle's.
OUTER = {
    "the default": (lambda: None, None),
    "SGD": (sgd(0.5), oracle.SGD(0.5)),
    "momentum": (sgd(0.6, momentum=0.5), oracle.SGD(0.6, momentum=0.5)),
    "Nesterov": (sgd(0.3, momentum=0.8, nesterov=True), oracle.SGD(0.3, 0.8, True)),
    "Adam": (lambda: keras.optimizers.Adam(0.05), oracle.Adam(0.05)),
}


def tolerance(outer):
    # Keras holds rates, and Adam's betas to the power of the step, in single precision.
    return 1e-5 if outer == "Adam" else 1e-6


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize(
    ("period", "outer"),
    [(1, "the default"), (7, "the default"), *[(3, outer) for outer in OUTER]],
)
def test_it_is_the_papers(workers, period, outer):
    kerass, ours = OUTER[outer]
    expected = oracle.train(workers, oracle.DiLoCo(period, ours), MOMENTUM)
    trained = sync_replicas.train(lambda: DiLoCo(period, kerass()), workers, MOMENTUM)
    sync_replicas.assert_is(trained, expected, DiLoCo(period), tolerance(outer))


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize(("period", "outer"), [(2, "the default"), (5, "the default"), (6, "Adam")])
def test_fragments_are_exchanged_in_turn(workers, period, outer):
    kerass, ours = OUTER[outer]
    streaming = oracle.StreamingDiLoCo(period, FRAGMENTS, ours)
    expected = oracle.train(workers, streaming, MOMENTUM)
    trained = sync_replicas.train(lambda: DiLoCo(period, kerass(), fragments=2), workers, MOMENTUM)
    algorithm = DiLoCo(period, fragments=2)
    sync_replicas.assert_is(trained, expected, algorithm, tolerance(outer))


def test_one_fragment_is_diloco():
    streaming = oracle.StreamingDiLoCo(3, [slice(None)])
    expected = oracle.train(2, streaming, MOMENTUM)
    trained = sync_replicas.train(lambda: DiLoCo(3, fragments=1), 2, MOMENTUM)
    sync_replicas.assert_is(trained, expected, DiLoCo(3), 1e-6)


def test_an_outer_sgd_of_rate_one_is_local_sgd():
    outer = sgd(1.0)
    trained = sync_replicas.train(lambda: DiLoCo(3, outer()), 4, MOMENTUM)
    local = sync_replicas.train(lambda: LocalSGD(3), 4, MOMENTUM)
    np.testing.assert_allclose(trained.models, local.models, rtol=0, atol=1e-11)


def test_float32():
    expected = oracle.train(2, oracle.DiLoCo(3), MOMENTUM)
    trained = sync_replicas.train(lambda: DiLoCo(3), 2, MOMENTUM, "float32")
    sync_replicas.assert_is(trained, expected, DiLoCo(3), 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_averaged_in_single(dtype):
    counts, steps = [70_001, 30_000], [[0.5, -2.0], [0.50390625, 2.0]]

    def program(communicator):
        variable = tf.Variable([0.0, 0.0], dtype=dtype)
        communicator.examples = tf.constant(counts[communicator.replica], tf.float32)
        algorithm = DiLoCo(1, keras.optimizers.SGD(1.0))
        state = algorithm.init([variable])
        algorithm.start(state, [variable])
        variable.assign(tf.cast(steps[communicator.replica], dtype))
        algorithm.after_update(state, [variable], communicator)
        return variable.numpy().astype("float64")

    expected = tf.cast(np.average(steps, axis=0, weights=counts), dtype).numpy()
    for average in on_replicas(2, program):
        np.testing.assert_array_equal(average, expected.astype("float64"))


def test_the_outer_optimizer_is_copied():
    outer = keras.optimizers.SGD(0.5, momentum=0.5)
    sync_replicas.train(lambda: DiLoCo(3, outer), 2, MOMENTUM)
    assert not outer.built and int(outer.iterations.numpy()) == 0


def test_when_replicas_agree():
    algorithm = DiLoCo(4)
    assert [step for step in range(13) if algorithm.agrees_at(step)] == [0, 4, 8, 12]
    streaming = DiLoCo(4, fragments=2)
    assert [step for step in range(13) if streaming.agrees_at(step)] == [0]
    trained = sync_replicas.train(lambda: DiLoCo(4), 2, MOMENTUM)
    differ = (trained.models[:, 0] != trained.models[:, 1]).any(axis=1)
    expected = [algorithm.agrees_at(step) for step in range(1, oracle.STEPS + 1)]
    np.testing.assert_array_equal(~differ, expected)
    np.testing.assert_array_equal(trained.said[:, 0], expected)


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("fragments", [1, 2])
def test_bytes_per_step_are_those_that_are_sent(workers, fragments):
    make = lambda: DiLoCo(5, fragments=fragments)  # noqa: E731
    trained = sync_replicas.train(make, workers, MOMENTUM, "float32")
    said = make().bytes_per_step([(3, 2), (2,)], workers)
    assert said == pytest.approx(2 * (workers - 1) / workers * 8 * 4 / 5)
    assert trained.sent.mean() == pytest.approx(said)
    # What is sent at once falls by the number of fragments, here to the kernel's.
    peak = 2 * (workers - 1) / workers * 4 * (8 if fragments == 1 else 6)
    assert trained.sent.max() == pytest.approx(peak)


# -- fragments -----------------------------------------------------------------------------


def largest_of_best(sizes, count):
    """The largest part of the split into `count` runs whose largest part is smallest."""
    best = {(0, 0): 0}
    for parts in range(1, count + 1):
        for end in range(parts, len(sizes) + 1):
            best[parts, end] = min(
                max(best[parts - 1, begin], sum(sizes[begin:end]))
                for begin in range(parts - 1, end)
                if (parts - 1, begin) in best
            )
    return best[count, len(sizes)]


@pytest.mark.parametrize("seed", range(40))
def test_every_variable_is_in_one_fragment_and_fragments_are_alike(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 3, 10, 64, 640], size=rng.integers(1, 30)).tolist()
    count = int(rng.integers(1, len(sizes) + 1))
    parts = _parts([tf.TensorShape([size]) for size in sizes], count)
    assert [index for part in parts for index in part] == list(range(len(sizes)))
    assert len(parts) == count and all(parts)
    largest = max(sum(sizes[index] for index in part) for part in parts)
    # A variable is not split: none of the fragments is off by more than one of them.
    assert largest <= largest_of_best(sizes, count) + max(sizes)
    assert largest <= sum(sizes) / count + max(sizes)


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([10, 10, 10, 10], 2, [[0, 1], [2, 3]]),
        ([10, 10, 10, 10], 4, [[0], [1], [2], [3]]),
        ([1000, 1, 1, 1], 2, [[0], [1, 2, 3]]),
        ([1, 1, 1, 1000], 2, [[0, 1, 2], [3]]),
        ([1000, 1, 1], 3, [[0], [1], [2]]),
        ([1, 1, 1000], 3, [[0], [1], [2]]),
        ([0, 0, 5], 2, [[0, 1], [2]]),
        ([0, 0, 0], 3, [[0], [1], [2]]),
        ([7], 1, [[0]]),
    ],
)
def test_fragments(sizes, count, expected):
    assert _parts([tf.TensorShape([size]) for size in sizes], count) == expected


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"period": 0}, "period=0: expected an int of at least 1"),
        ({"period": 2.5}, "period=2.5"),
        ({"period": 4, "fragments": 0}, "fragments=0: expected an int of at least 1"),
        ({"period": 4, "fragments": 5}, "fragments=5 with period=4: .*longer period"),
        ({"period": 4, "outer_optimizer": "sgd"}, "outer_optimizer='sgd': expected a Keras"),
        ({"period": 4, "outer_optimizer": keras.optimizers.SGD}, "expected a Keras optimizer"),
    ],
)
def test_bad_arguments(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        DiLoCo(**arguments)


def test_more_fragments_than_variables():
    algorithm = DiLoCo(8, fragments=3)
    with pytest.raises(ValueError, match="fragments=3: the model has 2 trainable variables"):
        algorithm.check(2, None, [tf.Variable(1.0), tf.Variable(2.0)])
    algorithm.check(2, None, [tf.Variable(1.0)] * 3)


def test_its_config_tells_outer_optimizers_apart():
    configs = [
        DiLoCo(8).get_config(),
        DiLoCo(8, keras.optimizers.SGD(0.6, 0.9, True)).get_config(),
        DiLoCo(8, keras.optimizers.Adam(0.7)).get_config(),
    ]
    assert configs[0]["period"] == 8 and configs[0]["fragments"] == 1
    assert configs[0]["compressor"] is None
    outer = [config["outer_optimizer"] for config in configs]
    assert outer[0]["config"]["learning_rate"] == pytest.approx(0.7)
    assert outer[0]["config"]["nesterov"] and outer[0] != outer[1] != outer[2]
