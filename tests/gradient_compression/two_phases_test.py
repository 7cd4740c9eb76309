import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

from tfdist.gradient_compression import two_phases


@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_exact_encoding_gives_the_exact_mean(n, size):
    vectors = np.random.default_rng(0).normal(size=(n, size))

    def program(communicator):
        seen = []

        def encode(values, phase):
            seen.append((phase, tuple(values.shape)))
            return values

        mean = two_phases.mean(tf.constant(vectors[communicator.replica]), encode, communicator)
        return mean.numpy(), seen, communicator

    chunk = -(-size // n)
    for mean, seen, communicator in on_replicas(n, program):
        np.testing.assert_allclose(mean, vectors.mean(axis=0))
        assert seen == [(0, (n, chunk)), (1, (chunk,))]
        assert communicator.bytes_sent == pytest.approx(two_phases.bytes_sent(size, n, 8))


def test_the_traffic_is_that_of_the_best_all_reduce():
    assert two_phases.bytes_sent(1200, 4, 2) == 2 * 3 / 4 * 1200 * 2
