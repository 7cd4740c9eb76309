"""What links see is the gradient of the whole batch, on any number of replicas."""

import contextlib

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdist
from tfdist import compat
from tfdist.compat import optimizer as compat_optimizer
from tfdist.sync.before_update import BeforeUpdate

X, Y = np.random.default_rng(0).normal(size=(2, 10, 3))
WAYS = {
    "no strategy": lambda: None,
    "one replica": lambda: tfdist.MirroredStrategy(devices.PAIR[:1]),
    "two replicas": lambda: tfdist.MirroredStrategy(devices.PAIR),
}


def oracle(kernel, bias, rows):
    """The gradients of the mean squared error of `rows`, in NumPy."""
    error = 2 * (X[rows] @ kernel + bias - Y[rows]) / Y[rows].size
    return X[rows].T @ error, error.sum(0)


@contextlib.contextmanager
def linked(model, link):
    strategy = getattr(model, "_distribute_strategy", None)
    chain = BeforeUpdate() if strategy is None else strategy.before_update(model)
    with contextlib.ExitStack() as stack:
        stack.enter_context(chain.linked(link))
        if strategy is None:
            stack.enter_context(compat_optimizer.before_apply(model.optimizer, chain.run))
        yield


@pytest.fixture
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def dense(where, optimizer, dtype="float64", **compiled):
    compat.install()
    strategy = WAYS[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, dtype=dtype)])
        model.compile(optimizer(), "mse", **compiled)
        seen = [
            tf.Variable(tf.zeros([2, *v.shape], v.dtype), aggregation=tf.VariableAggregation.NONE)
            for v in model.trainable_variables
        ]
        steps = tf.Variable(0, aggregation=tf.VariableAggregation.NONE)
    return model, seen, steps


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("where", WAYS)
def test_links_see_the_reduced_gradients_and_may_change_them(where, jit_compile, float64):
    model, seen, steps = dense(where, lambda: keras.optimizers.SGD(1.0), jit_compile=jit_compile)
    expected = [v.numpy() for v in model.trainable_variables]

    def link(gradients, variables):
        assert [v.path for v in variables] == [v.path for v in model.trainable_variables]
        for variable, gradient in zip(seen, gradients):
            chosen = tf.one_hot(steps, 2, dtype=gradient.dtype)
            chosen = tf.reshape(chosen, [2] + [1] * len(gradient.shape))
            variable.assign(variable + chosen * gradient[None])
        steps.assign_add(1)
        return [gradients[0], 0 * gradients[1]]

    with linked(model, link):
        model.fit(X, Y, 6, verbose=0, shuffle=False)  # batches of 6 and 4
    for step, rows in enumerate((slice(6), slice(6, 10))):
        gradients = oracle(*expected, rows)
        for variable, gradient in zip(seen, gradients):
            for value in getattr(variable, "values", (variable,)):
                np.testing.assert_allclose(value.numpy()[step], gradient, rtol=1e-12)
        expected[0] = expected[0] - gradients[0]
    for variable, value in zip(model.trainable_variables, expected):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-12, atol=1e-12)


def test_outside_of_the_context_nothing_is_seen():
    model, _, _ = dense("no strategy", keras.optimizers.SGD)
    with linked(model, lambda gradients, variables: pytest.fail("traced")):
        pass
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_they_see_no_loss_scale_and_zeros_where_it_overflows(where):

    def optimizer():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=4.0)

    model, seen, steps = dense(where, optimizer, "float32")
    begin = [v.numpy() for v in model.trainable_variables]

    def link(gradients, variables):
        for variable, gradient in zip(seen, gradients):
            chosen = tf.one_hot(steps, 2, dtype=gradient.dtype)
            chosen = tf.reshape(chosen, [2] + [1] * len(gradient.shape))
            variable.assign(variable + chosen * gradient[None])
        steps.assign_add(1)
        return [2 * gradient for gradient in gradients]

    x = X.astype("float32")
    x[6:] = np.inf
    with linked(model, link):
        model.fit(x, Y.astype("float32"), 6, verbose=0, shuffle=False)
    gradients = oracle(*begin, slice(6))
    for variable, gradient, was, now in zip(seen, gradients, begin, model.get_weights()):
        first, second = getattr(variable, "values", (variable,))[0].numpy()
        np.testing.assert_allclose(first, gradient, rtol=1e-4, atol=1e-6)
        assert not second.any()
        np.testing.assert_allclose(now, was - 2 * gradient, rtol=1e-4, atol=1e-5)


def test_gradients_that_are_sparse_or_missing():
    chain, rows = BeforeUpdate(), tf.IndexedSlices(tf.constant([[4.0]]), tf.constant([1]), [3, 1])
    seen = []
    with chain.linked(lambda gradients, variables: seen.append(gradients)):
        same = chain.run([rows, None], ["table", "other"], tf.constant(2.0))
    assert same == [rows, None] and float(seen[0][0].values[0, 0]) == 2.0 and seen[0][1] is None
    with chain.linked(lambda gradients, variables: [tf.convert_to_tensor(gradients[0]) + 1, None]):
        changed = chain.run([rows, None], ["table", "other"], tf.constant(2.0))
    np.testing.assert_array_equal(changed[0], [[2.0], [6.0], [2.0]])
