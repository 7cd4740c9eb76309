"""How the tail of the step weighs losses by examples, and by other denominators."""

import numpy as np
import pytest
import tensorflow as tf
from simulated import on_replicas
from step_cases import keras_step, known, local, mean, splits

OPTIMIZER, ANOTHER = object(), object()  # a step only asks whether they are the same


# -- shares, and denominators that are not the number of examples ---------------


@known
@splits
def test_shares(split, known):
    def program(communicator):
        step = keras_step(communicator, split, known)
        assert float(step.global_examples()) == sum(split)
        return float(step.share()), float(step.examples_ratio())

    for (share, ratio), examples in zip(on_replicas(len(split), program), split):
        assert share == examples / sum(split)
        assert ratio == (pytest.approx(sum(split) / examples) if examples else 0.0)


@known
@splits
def test_denominators(split, known):
    """Losses with a mask: the mean over all unmasked steps of the global batch."""
    lengths = np.array([1, 7, 3, 2, 6, 1, 4, 5, 2, 3])
    losses = np.arange(10.0) ** 2
    parts = np.split(np.arange(sum(split)), np.cumsum(split)[:-1])

    def program(communicator):
        rows = parts[communicator.replica]
        denominator = lengths[rows].sum() if len(rows) else 99  # a stand-in's
        step = keras_step(communicator, split, known)
        ratio = float(step.denominator_ratio(tf.constant(float(denominator))))
        own_mean = (losses * lengths)[rows].sum() / denominator
        return own_mean * ratio * float(step.share())

    rows = np.arange(sum(split))
    expected = np.average(losses[rows], weights=lengths[rows])
    assert sum(on_replicas(len(split), program)) == pytest.approx(expected, rel=1e-12)


def test_a_denominator_of_zero_everywhere_is_no_nan():
    def program(communicator):
        return float(keras_step(communicator, (2, 2)).denominator_ratio(tf.constant(0.0)))

    assert on_replicas(2, program) == [0.0, 0.0]


def test_a_denominator_has_no_gradient():
    def program(communicator):
        step = keras_step(communicator, (2, 2))
        x = tf.constant(3.0)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = step.denominator_ratio(x)
        return tape.gradient(y, x)

    assert on_replicas(2, program) == [None, None]


# -- the weight on the loss, not on the gradients -------------------------------


def weighed_step(communicator, split, known):
    """A step, its weighed loss, and what the tape then gives for the gradient."""
    replica = communicator.replica
    step = keras_step(communicator, split, known)
    if not known:
        step.note_forward_collective()
    loss = tf.constant(float(local(split, replica)[0, 0]))
    weighed = step.weigh_loss(loss, OPTIMIZER)
    weight = split[replica] / sum(split)
    return step, weighed, weight * tf.constant(local(split, replica, empty=0.0))


@known
@splits
def test_losses_are_weighed_by_examples(split, known):
    def program(communicator):
        step, weighed, gradient = weighed_step(communicator, split, known)
        reduced, none = step.reduce_gradients([gradient, None], OPTIMIZER)
        assert none is None
        return float(weighed), reduced

    results = on_replicas(len(split), program)
    assert sum(weighed for weighed, _ in results) == pytest.approx(mean(split)[0, 0], rel=1e-5)
    for _, reduced in results:
        np.testing.assert_allclose(reduced, mean(split), rtol=1e-13)


def test_without_b_the_loss_is_left_alone():
    def program(communicator):
        step = keras_step(communicator, (3, 1), known=False)
        loss = tf.constant(1.0)
        assert step.weigh_loss(loss, OPTIMIZER) is loss
        assert communicator.messages == []

    on_replicas(2, program)


def test_an_optimizer_whose_loss_was_not_weighed_has_its_gradients_weighed():
    split = (3, 1)

    def program(communicator):
        step, _, weighed = weighed_step(communicator, split, known=True)
        raw = tf.constant(local(split, communicator.replica))
        (other,) = step.reduce_gradients([raw], ANOTHER)
        return step.reduce_gradients([weighed], OPTIMIZER)[0], other

    for replica in on_replicas(2, program):
        for gradient in replica:
            np.testing.assert_allclose(gradient, mean(split), rtol=1e-13)


def test_half_precision_gradients_of_a_weighed_loss_are_summed_in_single():
    def program(communicator):
        step = keras_step(communicator, (1, 1))
        step.weigh_loss(tf.constant(1.0), OPTIMIZER)
        value = tf.constant([1.0 if communicator.replica == 0 else 2.0**-12], tf.float16)
        (reduced,) = step.reduce_gradients([value], OPTIMIZER)
        assert reduced.dtype == tf.float16
        return communicator.messages

    assert on_replicas(2, program)[0] == [["float32"]]
