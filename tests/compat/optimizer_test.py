import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.optimizers.loss_scale_optimizer import LossScaleOptimizer
from upstream import original, require, require_parameters

from tfdist import compat
from tfdist.compat import active_step
from tfdist.compat import optimizer as compat_optimizer


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    for owner in (BaseOptimizer, LossScaleOptimizer):
        require(owner, "apply", "scale_loss")
        require_parameters(owner.apply, "self", "grads", "trainable_variables")
        require_parameters(owner.scale_loss, "self", "loss")
    require_parameters(TFOptimizer._all_reduce_sum_gradients, "self", "grads_and_vars")
    assert issubclass(keras.optimizers.Optimizer, (BaseOptimizer, TFOptimizer))
    # Were `apply` overridden on the way, the replacement would not be called.
    for optimizer_class in (keras.optimizers.SGD, keras.optimizers.Adam):
        assert optimizer_class.apply is BaseOptimizer.apply
        assert optimizer_class.scale_loss is BaseOptimizer.scale_loss


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.5),
    "Adam, accumulating": lambda: keras.optimizers.Adam(0.1, gradient_accumulation_steps=2),
    "loss scaling": lambda: LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0),
}
optimizers = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


def descend(make, apply):
    """The weights after four steps with given gradients."""
    optimizer, variable = make(), keras.Variable([1.0, -2.0, 3.0])
    for step in range(4):
        apply(optimizer, [tf.constant([0.5, 2.0, -1.0]) * (step + 1)], [variable])
    return variable.numpy()


@optimizers
def test_without_a_step_it_is_the_original(make):
    patched = descend(make, lambda o, grads, weights: o.apply(grads, weights))
    stock = descend(make, lambda o, grads, weights: original(type(o).apply)(o, grads, weights))
    np.testing.assert_array_equal(patched, stock)
    assert not np.array_equal(patched, [1.0, -2.0, 3.0])
    optimizer, loss = make(), tf.constant(3.0)
    assert float(optimizer.scale_loss(loss)) == original(type(optimizer).scale_loss)(
        optimizer, loss
    )


class RecordingStep:
    """Doubles the gradients and triples the loss."""

    collects_updates = False

    def __init__(self):
        self.reduced = []
        self.inside = []

    def reduce_gradients(self, gradients, optimizer):
        self.reduced.append(optimizer)
        self.inside.append(compat_optimizer.applying())
        return [2.0 * gradient for gradient in gradients]

    def update(self, optimizer, apply, gradients):
        self.inside.append(compat_optimizer.applying())
        return apply(gradients)

    def weigh_loss(self, loss, optimizer):
        return 3.0 * loss

    def aggregated(self, variable, value):
        return value

    def note_assignment(self, variable, value):
        raise AssertionError("an optimizer's assignments are no state of layers")


@optimizers
def test_gradients_are_reduced_once_and_first(make):
    def apply(optimizer, grads, weights):
        step = RecordingStep()
        with active_step.activate(step):
            optimizer.apply(grads, weights)
        assert step.reduced == [optimizer]
        assert step.inside == [False, True]

    def doubled(optimizer, grads, weights):
        optimizer.apply([2.0 * gradient for gradient in grads], weights)

    np.testing.assert_array_equal(descend(make, apply), descend(make, doubled))


@optimizers
def test_the_loss_is_weighed_once(make):
    optimizer = make()
    stock = float(optimizer.scale_loss(tf.constant(1.0)))
    with active_step.activate(RecordingStep()):
        assert float(optimizer.scale_loss(tf.constant(1.0))) == 3.0 * stock


def test_an_error_in_apply_leaves_nothing_behind():
    with active_step.activate(RecordingStep()):
        with pytest.raises(ValueError, match="must already be built"):
            keras.optimizers.SGD().apply([tf.constant(1.0)])
    assert not compat_optimizer.applying()


def test_gradients_have_the_shapes_of_their_variables():
    """Behind a `Dense` of sequences TensorFlow has lost them; an algorithm packs them into one."""
    seen = []

    class Step:
        collects_updates = False

        def reduce_gradients(self, gradients, optimizer):
            seen.extend(tf.convert_to_tensor(gradient).shape for gradient in gradients)
            return gradients

        def update(self, optimizer, apply, gradients):
            return apply(gradients)

    model = keras.Sequential(
        [keras.Input((7,), dtype="int32"), keras.layers.Embedding(6, 4), keras.layers.Dense(3)]
    )
    optimizer = keras.optimizers.SGD(0.1)
    optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[tf.TensorSpec((None, 7), tf.int32)])
    def train(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x))
        gradients = tape.gradient(loss, model.trainable_variables)
        lost = [gradient.shape for gradient in gradients if isinstance(gradient, tf.Tensor)]
        assert lost[0].as_list() == [None, 3]  # or there is nothing to do any more
        with active_step.activate(Step()):
            optimizer.apply(gradients)

    train.get_concrete_function()
    assert [shape.as_list() for shape in seen] == [[6, 4], [4, 3], [3]]
