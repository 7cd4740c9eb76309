"""What steps that run at the same time make of shared variables, in one process without servers.

How that is on real servers, `parameter_server_test.py` and its cases tell.
"""

import threading

import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf

from tfdist import compat
from tfdist.compat import active_step
from tfdist.compat.local_state import local_state
from tfdist.strategies.server_updates import ServerUpdates
from tfdist.sync.async_step import AsyncStep


@pytest.fixture(autouse=True)
def installed():
    compat.install()


class Server:
    """What holds a training's variables: here this process."""

    def __init__(self, *optimizers):
        self.updates = ServerUpdates(tf.distribute.get_strategy())
        for optimizer in optimizers:
            self.updates.add_lock(optimizer.iterations.value)

    def step(self, number, versions=(), **more):
        return AsyncStep(number, tf.constant(4), self.updates, list(versions), **more)


def traced(function):
    """A function of a step's number."""
    spec = [tf.TensorSpec([], tf.int64)]
    return tf.function(function, input_signature=spec, autograph=False)


def apply(optimizer, *pairs):
    gradients, variables = zip(*pairs)
    optimizer.apply([tf.convert_to_tensor(g) for g in gradients], list(variables))


# -- optimizers ------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.5, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.1),
    "AdamW": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "Nadam": lambda: keras.optimizers.Nadam(0.1),
    "Muon": lambda: keras.optimizers.Muon(0.1, adam_weight_decay=0.1),
    "Ftrl": lambda: keras.optimizers.Ftrl(0.1),
    "a schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    ),
    "averages": lambda: keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9),
    "averages that are used": lambda: keras.optimizers.SGD(
        0.5, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2
    ),
    "clipping": lambda: keras.optimizers.Adam(0.1, global_clipnorm=0.5),
}
AS_A_WHOLE = {"Nadam", "Muon", "averages", "averages that are used"}


@pytest.mark.parametrize("constraint", [None, "non_neg"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_step_after_the_other_is_plain_keras(name, constraint):
    def new():
        layer = keras.layers.Dense(3, kernel_initializer="ones", kernel_constraint=constraint)
        layer.build((None, 2))
        optimizer = OPTIMIZERS[name]()
        optimizer.build(layer.trainable_variables)
        return layer, optimizer

    random = np.random.default_rng(2)
    gradients = random.normal(size=(5, 2, 3)) + 1.0
    layer, optimizer = new()
    server = Server(optimizer)

    @traced
    def train(number):
        step = server.step(number)
        kernel = tf.gather(tf.constant(gradients, tf.float32), number)
        with active_step.activate(step):
            apply(optimizer, (kernel, layer.kernel), (kernel[0], layer.bias))
        return step.version

    expected, plain = new()
    for number, gradient in enumerate(gradients):
        assert int(train(number)) == number
        apply(plain, *[(g.astype("float32"), v) for g, v in ((gradient, expected.kernel),
              (gradient[0], expected.bias))])  # fmt: skip
    for mine, theirs in zip(layer.weights, expected.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)
    for mine, theirs in zip(optimizer.variables, plain.variables, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-7)


def test_a_step_that_runs_again_applies_nothing_again():
    first, second = keras.optimizers.SGD(1.0), keras.optimizers.SGD(1.0)
    a, b = keras.Variable(0.0), keras.Variable(0.0)
    first.build([a])
    second.build([b])
    server = Server(first, second)

    @traced
    def train(number):
        with active_step.activate(server.step(number)):
            apply(first, (-1.0, a))  # each optimizer has its own count of updates
            apply(second, (-1.0, b))
            apply(second, (-1.0, b))  # and may be applied several times
        return tf.constant(0)

    for number in (5, 6, 5, 7, 6):
        train(number)
    assert (float(a), float(b)) == (3.0, 6.0)
    assert (int(first.iterations), int(second.iterations)) == (3, 6)


def test_an_optimizer_is_built_where_a_step_applies_it():
    optimizer, variable = keras.optimizers.SGD(1.0, momentum=0.5), keras.Variable(0.0)
    server = Server(optimizer)

    @traced
    def train(number):
        with active_step.activate(server.step(number)):
            apply(optimizer, (-1.0, variable))
        return tf.constant(0)

    train(0)
    train(1)
    assert float(variable) == 1.0 + 1.5


def test_no_step_overtakes_another_between_its_claim_and_its_average():
    """The average begins with the first update, which the second step must not come before.

    Keras lets the average at version 0 be the weights, and any other move on from what it is:
    from zeros, where the second step comes first. Weights that are overwritten by it are lost.
    """
    overtaken = threading.Event()

    class Slow(keras.optimizers.SGD):
        """Its first update waits for the second one to be done, as long as that may take."""

        def update_step(self, gradient, variable, learning_rate):
            def wait(version):
                if version == 0:
                    overtaken.wait(slowness.seconds(1.0))
                return np.float32(0.0)

            nothing = tf.numpy_function(wait, [self.iterations.value], tf.float32)
            super().update_step(gradient + nothing, variable, learning_rate)

    optimizer = Slow(0.0, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2)
    variable = keras.Variable(np.full(3, 5.0, "float32"))
    optimizer.build([variable])
    server = Server(optimizer)

    @traced
    def train(number):
        step = server.step(number)
        with active_step.activate(step):
            apply(optimizer, (tf.ones(3), variable))
        with tf.control_dependencies([step.version]):
            return tf.constant(0)

    train.get_concrete_function()
    threads = [threading.Thread(target=train, args=(tf.constant(0, tf.int64),))]
    threads[0].start()
    while int(optimizer.iterations) == 0:
        threading.Event().wait(0.01)  # the first step has claimed its version
    second = threading.Thread(
        target=lambda: (train(tf.constant(1, tf.int64)), overtaken.set()), daemon=True
    )
    second.start()
    for thread in (*threads, second):
        thread.join(slowness.seconds(30.0))
        assert not thread.is_alive()
    assert int(optimizer.iterations) == 2
    np.testing.assert_allclose(variable, 5.0, rtol=1e-6)
    (average,) = optimizer._model_variables_moving_average
    np.testing.assert_allclose(average, 5.0, rtol=1e-6)


def test_a_stale_step_has_a_smaller_rate():
    optimizer, variable = keras.optimizers.SGD(1.0), keras.Variable(0.0)
    optimizer.build([variable])
    server = Server(optimizer)

    @traced
    def train(number):
        began = tf.constant(0, tf.int64)
        step = server.step(number, [(optimizer, began)], staleness_scaling=True)
        with active_step.activate(step):
            apply(optimizer, (-1.0, variable))
        return step.version - step.read_version

    assert [int(train(number)) for number in range(4)] == [0, 1, 2, 3]
    assert float(variable) == pytest.approx(1.0 + 1.0 + 1 / 2 + 1 / 3)


def test_an_optimizer_in_a_loop_of_the_graph_is_refused():
    optimizer, variable = keras.optimizers.SGD(1.0, name="mine"), keras.Variable(0.0)
    optimizer.build([variable])
    server = Server(optimizer)

    @traced
    def train(number):
        def body(i):
            apply(optimizer, (-1.0, variable))
            return i + 1

        with active_step.activate(server.step(number)):
            return tf.while_loop(lambda i: i < 3, body, [0])[0]

    with pytest.raises(ValueError, match=r"'mine' is applied in a loop of the graph.*range\(n\)"):
        train.get_concrete_function()


@pytest.mark.parametrize(
    "optimizer, words",
    [
        (lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()), "mixed_bfloat16"),
        (lambda: keras.optimizers.SGD(gradient_accumulation_steps=2), "larger batch"),
    ],
)
def test_what_workers_cannot_share_is_refused(optimizer, words):
    optimizer, variable, server = optimizer(), keras.Variable(0.0), Server()
    optimizer.build([variable])

    @traced
    def train(number):
        with active_step.activate(server.step(number)):
            apply(optimizer, (-1.0, variable))
        return tf.constant(0)

    with pytest.raises(ValueError, match=words):
        train.get_concrete_function()


# -- what else a step assigns --------------------------------------------------------------


def state(dtype="float32", **options):
    return keras.Variable(10, trainable=False, dtype=dtype, name="state", **options)


CHANGES = {
    "assigned": lambda v: v.assign(v + 2),
    "added": lambda v: v.assign_add(2),
    "subtracted": lambda v: v.assign_sub(-2),
    "twice": lambda v: (v.assign_add(5), v.assign_add(-3)),
    "in a condition": lambda v: tf.cond(
        tf.constant(True), lambda: v.assign_add(2), lambda: tf.convert_to_tensor(v)
    ),
    "in a condition, and behind it": lambda v: (
        tf.cond(tf.constant(True), lambda: v.assign_add(5), lambda: tf.convert_to_tensor(v)),
        v.assign_add(-3),
    ),
    "in an inner function": lambda v: tf.function(lambda: v.assign_add(2), autograph=False)(),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int32", "int64"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_another_step_has_added_meanwhile_stays(name, dtype):
    variable, server = state(dtype), Server()

    @traced
    def change(number):
        changed(server.step(number), [variable], CHANGES[name], meanwhile)
        return tf.constant(0)

    def meanwhile():
        variable.value.assign_add(tf.ones([], variable.dtype))

    change(0)
    change(1)
    assert float(keras.ops.cast(variable, "float32")) == 16


def changed(step, state, change, meanwhile=lambda: None):
    """A step that begins, of which another one does not know, and ends."""
    found = [(v, tf.identity(v.value)) for v in state]
    with tf.control_dependencies([value for _, value in found]):
        meanwhile()
    with local_state(found):
        with active_step.activate(step):
            change(*state)
        changes = step.changes(found)
    step.carry_over(changes)


def test_a_step_that_runs_again_changes_no_state_again():
    optimizer, variable, count = keras.optimizers.SGD(1.0), keras.Variable(0.0), state("int32")
    optimizer.build([variable])
    server = Server(optimizer)

    @traced
    def train(number):
        def change(count):
            count.assign_add(1)
            apply(optimizer, (-1.0, variable))

        changed(server.step(number), [count], change)
        return tf.constant(0)

    for number in (5, 6, 5):
        train(number)
    assert (float(variable), int(count)) == (2.0, 12)


OVERWRITTEN = {
    "bool": (lambda: keras.Variable(False, trainable=False, dtype="bool"), True),
    "trained": (lambda: keras.Variable(10.0), 12.0),
    "unsigned": (lambda: state("uint8"), 12),
}


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_what_cannot_be_added_is_overwritten(name):
    make, value = OVERWRITTEN[name]
    variable, server = make(), Server()
    own = [] if variable.trainable else [variable]

    @traced
    def change(number):
        changed(server.step(number), own, lambda *_: variable.assign(value))
        return tf.constant(0)

    change(0)
    assert variable.numpy() == value
