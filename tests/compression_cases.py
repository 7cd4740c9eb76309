"""What the tests of all compressors share: a small problem, and N replicas on it."""

import math
import threading

import numpy as np
import pytest
import tensorflow as tf
import tiers
from simulated import on_replicas

MIN_ELEMENTS = 32
# Compressed are the first three; none of their sizes is a multiple of 8, 3 or 4 alike.
SHAPES = [(24, 12), (3, 3, 2, 7), (7, 5), (12,), (), (4, 2)]
COMPRESSED = [0, 1, 2]
REST = [3, 4, 5]
# Of replicas: a pair, and an odd number; one more even number is slow.
each_number = pytest.mark.parametrize("n", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
STEPS = 20
RATE = 0.1


def variables(shapes=SHAPES, dtype="float32"):
    """What `init` wants: anything with a shape and a dtype."""
    return [tf.TensorSpec(shape, dtype) for shape in shapes]


def start(shapes=SHAPES, dtype="float32"):
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def gradients_of(weights, replica):
    """Those of a quadratic bowl; every replica has a bowl of its own."""
    rng = np.random.default_rng(100 + replica)
    gradients = []
    for position, weight in enumerate(weights):
        curvature = rng.uniform(0.5, 2, size=weight.shape)
        centre = rng.normal(size=weight.shape) * 3.0**-position
        gradients.append((curvature * (weight - centre)).astype(weight.dtype))
    return gradients


def all_gradients(weights, n):
    """List of lists: for each replica its gradients."""
    return [gradients_of(weights, replica) for replica in range(n)]


def train(compressor, n, dtype="float32", steps=STEPS):
    """SGD with `compressor` on `n` simulated replicas.

    Returns:
        A list, an entry a replica, of `(weights, means, state, communicator)`: the final
        weights, the list of each step's means, and the final state; NumPy arrays.
    """

    def program(communicator):
        weights, state = start(dtype=dtype), compressor.init(variables(dtype=dtype))
        history = []
        for _ in range(steps):
            gradients = tensors(gradients_of(weights, communicator.replica))
            means, state = compressor.reduce(state, gradients, communicator)
            history.append(arrays(means))
            weights = [w - RATE * mean for w, mean in zip(weights, history[-1])]
        return weights, history, tf.nest.map_structure(lambda v: v.numpy(), state), communicator

    return on_replicas(n, program)


def simulate(oracle, n, dtype="float32", steps=STEPS):
    """SGD in NumPy: `oracle(gradients)` has all replicas' gradients and returns the means."""
    weights = start(dtype=dtype)
    for step in range(steps):
        means = oracle(all_gradients(weights, n), step)
        weights = [w - RATE * mean for w, mean in zip(weights, means)]
    return weights


def plain_means(gradients):
    """The exact means over replicas, which oracles begin with."""
    return [np.mean(each, axis=0) for each in zip(*gradients)]


def assert_follows(compressor, oracle, n, dtype="float32", tolerance=1e-5):
    """Training equals `oracle`'s within `tolerance`, with the same bits on all replicas."""
    expected = simulate(oracle, n, dtype)
    results = train(compressor, n, dtype)
    for weights, history, _, _ in results:
        for weight, wanted in zip(weights, expected):
            assert weight.dtype == wanted.dtype
            np.testing.assert_allclose(weight, wanted, rtol=0, atol=tolerance)
        for means, first in zip(history, results[0][1]):
            assert [mean.tobytes() for mean in means] == [mean.tobytes() for mean in first]
    return results


def assert_bytes_are_counted(compressor, n):
    """`bytes_per_step` is what the communicator counted."""
    communicator = train(compressor, n, steps=3)[0][3]
    assert compressor.bytes_per_step(SHAPES, n) == round(communicator.bytes_sent / 3)


def assert_feeds_errors_back(compressor, n):
    """What was applied and what is left are all that there was."""
    total = [np.zeros(shape) for shape in SHAPES]
    lock = threading.Lock()

    def program(communicator):
        weights, state = start(dtype="float64"), compressor.init(variables(dtype="float64"))
        applied = [np.zeros(shape) for shape in SHAPES]
        for _ in range(STEPS):
            gradients = gradients_of(weights, communicator.replica)
            with lock:
                for sum_, gradient in zip(total, gradients):
                    sum_ += gradient
            means, state = compressor.reduce(state, tensors(gradients), communicator)
            applied = [a + mean.numpy() for a, mean in zip(applied, means)]
            weights = [w - RATE * mean.numpy() for w, mean in zip(weights, means)]
        return applied, arrays(state["residuals"])

    results = on_replicas(n, program)
    left = [sum(each) for each in zip(*(residuals for _, residuals in results))]
    assert max(np.abs(each).max() for each in left) > 1e-3  # something was kept back
    for position, residual in zip(COMPRESSED, left):
        applied = n * results[0][0][position]
        np.testing.assert_allclose(applied + residual, total[position], rtol=1e-6, atol=1e-6)


def assert_skips_what_is_not_finite(compressor, n=2, shapes=SHAPES):
    """One bad element on one replica: NaN in the mean and the old state, on all."""
    for number, bad in enumerate((np.nan, np.inf, -np.inf)):
        for position in range(len(shapes)):
            if tiers.quick() and (number + position) % 3:
                continue  # each of both is there, but not each pair

            def program(communicator, bad=bad, position=position):
                state = compressor.init(variables(shapes))
                good = gradients_of(start(shapes), communicator.replica)
                _, state = compressor.reduce(state, tensors(good), communicator)
                spoilt = [np.array(gradient) for gradient in good]
                if communicator.replica == n - 1:
                    spoilt[position].flat[spoilt[position].size // 2] = bad
                means, same = compressor.reduce(state, tensors(spoilt), communicator)
                finite = all(np.isfinite(mean).all() for mean in arrays(means))
                kept = tf.nest.map_structure(
                    lambda a, b: a.numpy().tobytes() == b.numpy().tobytes(), state, same
                )
                means, _ = compressor.reduce(same, tensors(good), communicator)
                again = all(np.isfinite(mean).all() for mean in arrays(means))
                return finite, all(tf.nest.flatten(kept)), again

            for finite, kept, again in on_replicas(n, program):
                assert not finite, f"{bad} in gradient {position} left a finite mean"
                assert kept, f"{bad} in gradient {position} changed the state"
                assert again, f"{bad} in gradient {position} was still there a step later"


class Alone:
    """The communicator of a single replica, in graphs and eagerly."""

    num_replicas = 1

    def __init__(self):
        self.replica_id = tf.constant(0, tf.int32)

    def all_reduce(self, values):
        return list(values)

    def all_gather(self, values):
        return [value[None] for value in values]

    def all_to_all(self, values):
        return list(values)


def assert_graph_equals_eager(compressor):
    """Three steps of one replica, in a `tf.function` and a `tf.cond`, and eagerly."""

    @tf.function
    def in_graph(state, gradients):
        return tf.cond(
            tf.size(gradients[0]) > 0,
            lambda: compressor.reduce(state, gradients, Alone()),
            lambda: (gradients, state),
        )

    states = [compressor.init(variables())] * 2
    for step in range(3):
        gradients = tensors(gradients_of([w + step for w in start()], 0))
        eager, states[0] = compressor.reduce(states[0], gradients, Alone())
        graph, states[1] = in_graph(states[1], gradients)
        tf.nest.assert_same_structure(*states)
        for a, b in zip(
            [*eager, *tf.nest.flatten(states[0])], [*graph, *tf.nest.flatten(states[1])]
        ):
            assert a.dtype == b.dtype and a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def tensors(values):
    return [tf.constant(value) for value in values]


def arrays(values):
    return [value.numpy() for value in values]


def size_of(positions):
    return sum(math.prod(SHAPES[position]) for position in positions)
