import pytest
import tensorflow as tf
from upstream import require_parameters

from tfdist import compat
from tfdist.compat import active_step


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require_parameters(tf.GradientTape.gradient, "self", "target", "sources")


class Step:
    def __init__(self):
        self.targets = []

    def note_target(self, loss):
        self.targets.append(loss)


def gradient():
    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        losses = [x**2, {"b": 2.0 * x}]
    return losses, tape.gradient(losses, [x], unconnected_gradients="zero")


def test_the_step_hears_what_is_differentiated():
    step = Step()
    with active_step.activate(step):
        losses, gradients = gradient()
    assert [float(g) for g in gradients] == [8.0]
    assert step.targets[0] is losses[0] and step.targets[1] is losses[1]["b"]


def test_without_a_step_it_is_the_original():
    assert [float(g) for g in gradient()[1]] == [8.0]
