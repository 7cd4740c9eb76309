import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.optimizers.loss_scale_optimizer import LossScaleOptimizer
from upstream import original, require, require_parameters, stock_pair, two_cpus

import tfdist
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
    require(keras.optimizers.SGD(), "_distribution_strategy", "_trainable_variables")
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

    def before_update(self, optimizer, gradients, variables):
        return gradients

    def updated(self, optimizer, gradients, variables):
        return gradients, variables

    def update(self, optimizer, apply, gradients):
        self.inside.append(compat_optimizer.applying())
        return apply(gradients)

    def weigh_loss(self, loss, optimizer):
        return 3.0 * loss

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

        def before_update(self, optimizer, gradients, variables):
            return gradients

        def updated(self, optimizer, gradients, variables):
            return gradients, variables

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


# -- eager steps -----------------------------------------------------------------

EAGER = {
    "SGD": lambda: keras.optimizers.SGD(0.5),
    "accumulating": lambda: keras.optimizers.SGD(0.5, gradient_accumulation_steps=2),
    "clipping": lambda: keras.optimizers.SGD(0.5, clipvalue=100.0),
    "clipping and accumulating": lambda: keras.optimizers.SGD(
        0.5, clipvalue=100.0, gradient_accumulation_steps=2
    ),
    "loss scaling": lambda: LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=8.0),
}


@pytest.mark.parametrize("of_all", [True, False], ids=["same object", "each its own"])
@pytest.mark.parametrize("make", EAGER.values(), ids=EAGER)
def test_eager_steps_sum_what_tensorflow_sums(make, of_all):
    """TensorFlow takes what is the same object on all replicas for their sum already."""

    def weights(strategy):
        with strategy.scope():
            variable, optimizer = keras.Variable([1.0, 2.0]), make()
            optimizer.build([variable])
        gradient = tf.constant([0.5, -1.0])

        def step():
            mine = gradient
            if not of_all:
                replica = tf.distribute.get_replica_context().replica_id_in_sync_group
                mine = gradient * tf.cast(replica + 1, tf.float32)
            optimizer.apply([mine], [variable])

        for _ in range(2):
            strategy.run(step)
        return [v.numpy() for v in strategy.experimental_local_results(variable.value)]

    expected = weights(stock_pair())
    assert not np.array_equal(expected[0], [1.0, 2.0])
    np.testing.assert_allclose(weights(two_cpus()), expected, rtol=1e-6)


def unbatched_step(model, optimizer):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(tf.ones((4, 2))))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("in_scope", [True, False])
def test_a_step_that_is_not_on_a_replica(in_scope, replicas, graph):
    strategy = tfdist.MirroredStrategy(devices.PAIR[:replicas])
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(0.5, name="mine")
    before = model.get_weights()
    step = tf.function(unbatched_step) if graph else unbatched_step
    with strategy.scope() if in_scope else tf.init_scope():
        with pytest.raises(RuntimeError, match="but not on a replica") as error:
            step(model, optimizer)
    who = "`tf.GradientTape.gradient`" if in_scope else "`mine.apply`"
    where = "in the scope of" if in_scope else "outside of the scope of"
    for part in (who, f"{where} a MirroredStrategy", "`strategy.run(step, args=(batch,))`"):
        assert part in str(error.value)
    for mine, old in zip(model.get_weights(), before):
        np.testing.assert_array_equal(mine, old)


def test_apply_in_the_scope_of_gradients_from_elsewhere():
    strategy = two_cpus()
    with strategy.scope():
        variable, optimizer = keras.Variable(1.0), keras.optimizers.SGD(0.5)
        with pytest.raises(RuntimeError, match=r"apply` was called in the scope of a Mirrored"):
            optimizer.apply([tf.constant(1.0)], [variable])


def test_a_step_without_a_strategy_and_other_errors_of_a_tape_are_untouched():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    kernel = model.get_weights()[0]
    unbatched_step(model, keras.optimizers.SGD(0.5))
    np.testing.assert_allclose(model.get_weights()[0], kernel - 0.5)
    strategy = two_cpus()

    def twice():
        with tf.GradientTape() as tape:
            loss = tf.constant(1.0)
        tape.gradient(loss, [])
        tape.gradient(loss, [])

    with pytest.raises(RuntimeError, match="non-persistent GradientTape"):
        strategy.run(twice)
