import compression_cases as cases
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.gradient_compression import TopK

RATIO = 0.1


def make(ratio=RATIO, **arguments):
    return TopK(ratio, min_elements=cases.MIN_ELEMENTS, **arguments)


def oracle_of(n, momentum=None):
    residuals = [[0.0] * len(cases.SHAPES) for _ in range(n)]
    velocities = [[0.0] * len(cases.SHAPES) for _ in range(n)]
    plain = [0.0] * len(cases.SHAPES)

    def oracle(gradients, step):
        means = cases.plain_means(gradients)
        for p in cases.COMPRESSED:
            arrived = np.zeros_like(means[p])
            for replica in range(n):
                added = gradients[replica][p]
                if momentum:
                    velocities[replica][p] = momentum * velocities[replica][p] + added
                    added = velocities[replica][p]
                corrected = residuals[replica][p] + added
                k = round(RATIO * corrected.size)
                mask = np.zeros(corrected.size, bool)
                mask[np.argsort(-np.abs(corrected).ravel())[:k]] = True
                mask = mask.reshape(corrected.shape)
                arrived += np.where(mask, corrected, 0) / n
                residuals[replica][p] = np.where(mask, 0, corrected)
                if momentum:
                    velocities[replica][p] = np.where(mask, 0, velocities[replica][p])
            means[p] = arrived
        if momentum:
            for p in cases.REST:
                plain[p] = momentum * plain[p] + means[p]
                means[p] = plain[p]
        return means

    return oracle


@pytest.mark.parametrize("momentum", [None, 0.9])
@cases.each_number
def test_training_follows_numpy(n, momentum):
    cases.assert_follows(make(momentum=momentum), oracle_of(n, momentum), n)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_float64_follows_too(momentum):
    cases.assert_follows(make(momentum=momentum), oracle_of(3, momentum), 3, "float64")


@cases.each_number
def test_what_was_applied_and_what_is_left_are_all_there_was(n):
    cases.assert_feeds_errors_back(make(), n)


@cases.each_number
def test_everything_is_no_compression(n):
    def exact(gradients, step):
        return cases.plain_means(gradients)

    results = cases.assert_follows(make(1.0), exact, n)
    assert results[0][2] == {}
    assert results[0][3].collectives == ["all_reduce"] * cases.STEPS


def test_everything_with_momentum_is_momentum_sgd():
    velocity = [0.0] * len(cases.SHAPES)

    def momentum_sgd(gradients, step):
        velocity[:] = [0.9 * v + mean for v, mean in zip(velocity, cases.plain_means(gradients))]
        return list(velocity)

    cases.assert_follows(make(1.0, momentum=0.9), momentum_sgd, 3)


def test_at_least_one_element_is_sent():
    compressor = make(1e-6)
    gradients = cases.tensors(cases.gradients_of(cases.start(), 0))
    means, _ = compressor.reduce(compressor.init(gradients), gradients, cases.Alone())
    for p in cases.COMPRESSED:
        assert np.count_nonzero(means[p]) == 1
        assert np.abs(means[p]).max() == np.abs(gradients[p]).max()


def test_many_equal_elements_send_no_more_than_their_number():
    compressor = make()
    gradients = [tf.ones(shape) for shape in cases.SHAPES]
    means, _ = compressor.reduce(compressor.init(gradients), gradients, cases.Alone())
    for p in cases.COMPRESSED:
        assert np.count_nonzero(means[p]) == round(RATIO * tf.size(gradients[p]).numpy())


@pytest.mark.parametrize("momentum", [None, 0.9])
@cases.each_number
def test_bytes_are_those_that_were_sent(n, momentum):
    cases.assert_bytes_are_counted(make(momentum=momentum), n)


def test_two_messages_whatever_the_number_of_tensors():
    communicator = cases.train(make(), 2, steps=1)[0][3]
    assert communicator.collectives == ["all_reduce", "all_gather"]
    assert communicator.messages[1] == ["int32"]


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("ratio", [RATIO, 1.0])
def test_what_is_not_finite_is_skipped(ratio, momentum):
    cases.assert_skips_what_is_not_finite(make(ratio, momentum=momentum))


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_graph_equals_eager(momentum):
    cases.assert_graph_equals_eager(make(momentum=momentum))


@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer])
def test_momentum_takes_only_plain_sgd(wrap):
    compressor, variables = make(momentum=0.9), cases.variables()
    compressor.check(wrap(keras.optimizers.SGD(0.1)), variables)
    for optimizer in (keras.optimizers.SGD(0.1, momentum=0.9), keras.optimizers.Adam()):
        with pytest.raises(
            ValueError, match=f"{type(optimizer).__name__} with momentum=.* without"
        ):
            compressor.check(wrap(optimizer), variables)
        make().check(wrap(optimizer), variables)  # without momentum any will do


def test_bad_input():
    for ratio in (0, -0.1, 1.5):
        with pytest.raises(ValueError, match=r"ratio=.*: expected a number above 0"):
            TopK(ratio)
    for momentum in (0, 1, -0.9):
        with pytest.raises(ValueError, match=r"momentum=.*: expected None or a number between"):
            TopK(0.1, momentum=momentum)
