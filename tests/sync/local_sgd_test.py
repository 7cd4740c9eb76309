import numpy as np
import pytest
import sync_oracle as oracle
import sync_replicas
import tensorflow as tf
from simulated import on_replicas

from tfdist.sync.local_sgd import LocalSGD

MOMENTUM = oracle.SGD(0.05, momentum=0.9)
# The arguments, and those of the oracle, whose slow momentum divides by a rate.
CASES = {
    "every step": ({"period": 1}, {"period": 1}),
    "period": ({"period": 3}, {"period": 3}),
    "longer than training": ({"period": 100}, {"period": 100}),
    "warm-up": ({"period": 3, "warmup_steps": 4},) * 2,
    "warm-up is all": ({"period": 3, "warmup_steps": 50},) * 2,
    "slow momentum": (
        {"period": 3, "slow_momentum": 0.7},
        {"period": 3, "beta": 0.7, "gamma": 0.05},
    ),
    "slow momentum and rate": (
        {"period": 2, "slow_momentum": 0.5, "slow_learning_rate": 0.8},
        {"period": 2, "beta": 0.5, "alpha": 0.8, "gamma": 0.01},
    ),
    "slow rate alone": (
        {"period": 4, "slow_learning_rate": 1.2},
        {"period": 4, "alpha": 1.2},
    ),
    "warm-up and slow momentum": (
        {"period": 3, "warmup_steps": 5, "slow_momentum": 0.6},
        {"period": 3, "warmup_steps": 5, "beta": 0.6},
    ),
}


@pytest.mark.parametrize("workers", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_papers(workers, case):
    given, equations = CASES[case]
    expected = oracle.train(workers, oracle.LocalSGD(**equations), MOMENTUM)
    trained = sync_replicas.train(lambda: LocalSGD(**given), workers, MOMENTUM)
    sync_replicas.assert_is(trained, expected, LocalSGD(**given), 1e-11)


def test_float32():
    expected = oracle.train(2, oracle.LocalSGD(3, beta=0.7), MOMENTUM)
    trained = sync_replicas.train(lambda: LocalSGD(3, 0, 0.7), 2, MOMENTUM, "float32")
    sync_replicas.assert_is(trained, expected, LocalSGD(3, 0, 0.7), 1e-5)


def test_a_period_of_one_with_sgd_is_synchronous_sgd_on_unequal_batches():
    expected = oracle.train(4, oracle.Synchronous(), oracle.SGD(0.05))
    trained = sync_replicas.train(lambda: LocalSGD(1), 4, oracle.SGD(0.05))
    np.testing.assert_allclose(trained.models, expected.models, rtol=0, atol=1e-12)


def test_when_replicas_agree():
    algorithm = LocalSGD(period=4, warmup_steps=3)
    agree = [step for step in range(16) if algorithm.agrees_at(step)]
    assert agree == [0, 1, 2, 3, 7, 11, 15]
    # At other steps they do differ, and `after_update` says which.
    trained = sync_replicas.train(lambda: LocalSGD(4, 3), 2, MOMENTUM)
    differ = (trained.models[:, 0] != trained.models[:, 1]).any(axis=1)
    expected = [algorithm.agrees_at(step) for step in range(1, oracle.STEPS + 1)]
    np.testing.assert_array_equal(~differ, expected)
    np.testing.assert_array_equal(trained.said[:, 0], expected)


@pytest.mark.parametrize("workers", [2, 4])
def test_bytes_per_step_are_those_that_are_sent(workers):
    trained = sync_replicas.train(lambda: LocalSGD(5), workers, MOMENTUM, "float32")
    said = LocalSGD(5).bytes_per_step([(3, 2), (2,)], workers)
    assert said == pytest.approx(2 * (workers - 1) / workers * 8 * 4 / 5)
    assert trained.sent.mean() == pytest.approx(said)
    quiet = [t for t in range(oracle.STEPS) if (t + 1) % 5]
    assert not trained.sent[quiet].any()  # nothing between synchronisations


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_averaged_in_single(dtype):
    # Counts of examples beyond what the type holds, and neighbours of it that differ.
    counts, values = [70_001, 30_000], [[1.0, -2.0], [1.0078125, 2.0]]

    def program(communicator):
        variable = tf.Variable(values[communicator.replica], dtype=dtype)
        communicator.examples = tf.constant(counts[communicator.replica], tf.float32)
        algorithm = LocalSGD(1)
        state = algorithm.init([variable])
        algorithm.after_update(state, [variable], communicator)
        return variable.numpy().astype("float64")

    expected = tf.cast(np.average(values, axis=0, weights=counts), dtype).numpy()
    for average in on_replicas(2, program):
        np.testing.assert_array_equal(average, expected.astype("float64"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"period": 0}, "period=0: expected an int of at least 1"),
        ({"period": -3}, "period=-3"),
        ({"period": 1.5}, "period=1.5"),
        ({"period": True}, "period=True"),
        ({"period": None}, "period=None"),
        ({"period": "16"}, "period='16'"),
        ({"period": float("nan")}, "period=nan"),
        ({"period": float("inf")}, "period=inf"),
        ({"period": 2, "warmup_steps": -1}, "warmup_steps=-1: expected an int of at least 0"),
        ({"period": 2, "slow_momentum": 1.0}, r"slow_momentum=1.0: expected .* \[0, 1\)"),
        ({"period": 2, "slow_momentum": -0.1}, "slow_momentum=-0.1"),
        ({"period": 2, "slow_momentum": float("nan")}, "slow_momentum=nan"),
        ({"period": 2, "slow_learning_rate": 0}, "slow_learning_rate=0: expected"),
        ({"period": 2, "slow_learning_rate": float("nan")}, "slow_learning_rate=nan"),
    ],
)
def test_bad_arguments(arguments, expected):
    with pytest.raises(ValueError, match=expected):
        LocalSGD(**arguments)


def test_whole_numbers_of_other_types_and_its_config():
    algorithm = LocalSGD(np.int64(4), 2.0, 0.5, 0.7)
    config = algorithm.get_config()
    assert config == {
        "period": 4,
        "warmup_steps": 2,
        "slow_momentum": 0.5,
        "slow_learning_rate": 0.7,
    }
    assert LocalSGD(**config).get_config() == config
