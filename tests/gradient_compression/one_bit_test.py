import compression_cases as cases
import numpy as np
import tensorflow as tf
from simulated import on_replicas

from tfdist.gradient_compression import OneBit


def make():
    return OneBit(min_elements=cases.MIN_ELEMENTS)


def oracle_of(n):
    residuals = [[0.0] * len(cases.SHAPES) for _ in range(n)]

    def oracle(gradients, step):
        means = cases.plain_means(gradients)
        for p in cases.COMPRESSED:
            sent = []
            for replica in range(n):
                corrected = gradients[replica][p] + residuals[replica][p]
                sent.append(np.abs(corrected).mean() * np.where(corrected >= 0, 1, -1))
                residuals[replica][p] = corrected - sent[-1]
            means[p] = np.mean(sent, axis=0).astype(means[p].dtype)
        return means

    return oracle


@cases.each_number
def test_training_follows_numpy(n):
    cases.assert_follows(make(), oracle_of(n), n)


def test_float64_follows_too():
    cases.assert_follows(make(), oracle_of(3), 3, "float64")


@cases.each_number
def test_what_was_applied_and_what_is_left_are_all_there_was(n):
    cases.assert_feeds_errors_back(make(), n)


def test_one_step_by_hand():
    gradients = [[[1.0, -2.0], [3.0, 0.0]], [[-1.0, -1.0], [-1.0, 5.0]]]  # scales 1.5 and 2

    def program(communicator):
        compressor = OneBit(min_elements=1)
        own = tf.constant(gradients[communicator.replica])
        mean, state = compressor.reduce(compressor.init([own]), [own], communicator)
        return mean[0].numpy().tolist(), state["residuals"][0].numpy().tolist()

    (mean, first), (_, second) = on_replicas(2, program)
    assert mean == [[-0.25, -1.75], [-0.25, 1.75]]
    assert first == [[-0.5, -0.5], [1.5, -1.5]]
    assert second == [[1.0, 1.0], [1.0, 3.0]]


@cases.each_number
def test_bytes_are_those_that_were_sent(n):
    cases.assert_bytes_are_counted(make(), n)


def test_a_bit_an_element():
    assert OneBit().bytes_per_step([(1024, 1024)], 2) == 1024 * 1024 / 8 + 4


def test_two_messages_whatever_the_number_of_tensors():
    communicator = cases.train(make(), 2, steps=1)[0][3]
    assert communicator.collectives == ["all_reduce", "all_gather"]
    assert communicator.messages[1] == ["uint8"]


def test_zero_gradients_stay_zero():
    compressor = make()
    zeros = [tf.zeros(shape) for shape in cases.SHAPES]
    means, state = compressor.reduce(compressor.init(zeros), zeros, cases.Alone())
    for value in [*means, *state["residuals"]]:
        assert not value.numpy().any()


def test_what_is_not_finite_is_skipped():
    cases.assert_skips_what_is_not_finite(make())


def test_graph_equals_eager():
    cases.assert_graph_equals_eager(make())
