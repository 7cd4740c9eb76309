import compression_cases as cases
import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas

from tfdist.gradient_compression import Int8

LEVELS = 127 * (1 - 2**-21)


def make(**arguments):
    return Int8(min_elements=cases.MIN_ELEMENTS, **arguments)


def noise(seed, step, phase, replica, n, size):
    """Uniform numbers of 16 bits; the two in a 32-bit word are the low and the high half."""
    words = tf.random.stateless_uniform(
        [(size + 1) // 2],
        np.array([seed, step * 2 * n + phase * n + replica]),
        minval=None,
        maxval=None,
        dtype=tf.int32,
        alg="philox",
    )
    words = words.numpy().view(np.uint32)
    halves = np.stack([words & 0xFFFF, words >> 16], axis=1).reshape(-1)[:size]
    return (halves + 0.5) / 65536


def rounded(values, noise):
    return np.floor(values + noise)


def oracle_of(seed):
    def oracle(gradients, step):
        n, means = len(gradients), cases.plain_means(gradients)
        scales = [max(np.abs(each[p]).max() for each in gradients) for p in cases.COMPRESSED]
        levels = np.stack(
            [
                np.concatenate(
                    [
                        (each[p] * (each[p].dtype.type(LEVELS) / scale)).ravel()
                        for p, scale in zip(cases.COMPRESSED, scales)
                    ]
                )
                for each in gradients
            ]
        )
        size = levels.shape[1]
        chunk = (size + n - 1) // n
        levels = np.pad(levels, [(0, 0), (0, n * chunk - size)])
        sent = np.stack(
            [
                rounded(
                    levels[r].reshape(n, chunk),
                    noise(seed, step, 0, r, n, n * chunk).reshape(n, chunk),
                )
                for r in range(n)
            ]
        )
        assert np.abs(sent).max() <= 127
        owned = sent.mean(axis=0)
        mean = np.stack([rounded(owned[r], noise(seed, step, 1, r, n, chunk)) for r in range(n)])
        mean = mean.reshape(-1)
        for p, scale in zip(cases.COMPRESSED, scales):
            part, mean = mean[: means[p].size], mean[means[p].size :]
            means[p] = (part.reshape(means[p].shape) * scale / LEVELS).astype(means[p].dtype)
        return means

    return oracle


@cases.each_number
def test_training_follows_numpy(n):
    cases.assert_follows(make(seed=7), oracle_of(7), n)


def test_float64_follows_too():
    cases.assert_follows(make(), oracle_of(0), 3, "float64")


def test_the_mean_is_unbiased():
    n, times = 2, 150
    compressor = make()
    gradients = cases.all_gradients(cases.start(), n)

    def program(communicator):
        state = compressor.init(cases.variables())
        own = cases.tensors(gradients[communicator.replica])
        total = [np.zeros(shape) for shape in cases.SHAPES]
        for _ in range(times):
            means, state = compressor.reduce(state, own, communicator)
            total = [t + mean.numpy() for t, mean in zip(total, means)]
        return [t / times for t in total]

    average = on_replicas(n, program)[0]
    exact = cases.plain_means(gradients)
    for p in cases.COMPRESSED:
        level = max(np.abs(each[p]).max() for each in gradients) / LEVELS
        # Variances: at most 1/4 of a level's square each time, by n in the first phase.
        deviation = level * np.sqrt((0.25 / n + 0.25) / times)
        error = average[p] - exact[p]
        assert np.abs(error).max() < 5 * deviation
        assert np.abs(error.mean()) < 5 * deviation / np.sqrt(error.size)
        # Rounding to the nearest level has a bias that this test would see.
        nearest = np.mean([np.rint(e[p] / level) * level for e in gradients], axis=0)
        assert np.abs(nearest - exact[p]).max() > 5 * deviation


def test_the_error_is_at_most_two_levels():
    n = 2
    for _, history, _, _ in cases.train(make(), n, steps=1):
        gradients = cases.all_gradients(cases.start(), n)
        for p in cases.COMPRESSED:
            level = max(np.abs(each[p]).max() for each in gradients) / LEVELS
            assert np.abs(history[0][p] - cases.plain_means(gradients)[p]).max() <= 2 * level


def test_the_same_state_gives_the_same_mean_and_another_seed_another():
    def first_means(compressor):
        return cases.train(compressor, 2, steps=1)[0][1][0]

    for a, b in zip(first_means(make(seed=3)), first_means(make(seed=3))):
        assert a.tobytes() == b.tobytes()
    assert first_means(make(seed=3))[0].tobytes() != first_means(make(seed=4))[0].tobytes()


def test_steps_round_differently():
    compressor = make()
    gradients = cases.tensors(cases.gradients_of(cases.start(), 0))
    first, state = compressor.reduce(compressor.init(cases.variables()), gradients, cases.Alone())
    second, state = compressor.reduce(state, gradients, cases.Alone())
    assert state["step"][0] == 2
    assert first[0].numpy().tobytes() != second[0].numpy().tobytes()


@pytest.mark.parametrize("value", [0.0, 1e-38, 1e-30, 3e38])
def test_extreme_scales(value):
    compressor = make()
    gradient = np.full((8, 8), value, "float32")
    gradient[0, 0] = -value
    state = compressor.init([gradient])
    (mean,), _ = compressor.reduce(state, [tf.constant(gradient)], cases.Alone())
    expected = gradient if value >= 1e-36 else 0 * gradient
    np.testing.assert_allclose(mean, expected, rtol=1e-2)


@cases.each_number
def test_bytes_are_those_that_were_sent(n):
    cases.assert_bytes_are_counted(make(), n)


def test_four_messages_whatever_the_number_of_tensors():
    communicator = cases.train(make(), 2, steps=1)[0][3]
    assert communicator.collectives == ["all_reduce", "all_gather", "all_to_all", "all_gather"]
    assert communicator.messages[2:] == [["int8"], ["int8"]]


def test_what_is_not_finite_is_skipped():
    cases.assert_skips_what_is_not_finite(make())


def test_graph_equals_eager():
    cases.assert_graph_equals_eager(make())


def test_bad_input():
    for seed in (0.5, None, "7", True):
        with pytest.raises(ValueError, match=rf"seed={seed!r}: expected an int"):
            Int8(seed=seed)
