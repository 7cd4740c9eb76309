import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import nn
from upstream import original, require_parameters, two_cpus

from tfdist import compat
from tfdist.compat import active_step
from tfdist.sync.loop_step import Step
from tfdist.sync.step import KerasStep

X = np.random.default_rng(4).normal(2.0, 3.0, size=(7, 4, 3))


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def test_upstream():
    require_parameters(nn._compute_moments_sync, "x", "axes", "keepdims")
    # `keras.ops.moments` finds it in its module: else the replacement is not called.
    assert "_compute_moments_sync" in nn.moments.__code__.co_names


@pytest.mark.parametrize("keepdims", [True, False])
def test_without_a_step_it_is_the_original(keepdims):
    mine = nn._compute_moments_sync(tf.constant(X), [0, 1], keepdims)
    stock = original(nn._compute_moments_sync)(tf.constant(X), [0, 1], keepdims)
    for a, b in zip(mine, stock):
        np.testing.assert_array_equal(a, b)


def moments_of(sizes, make_step, keepdims=False):
    """The moments on each of two replicas, which hold so many of X's rows."""
    strategy = two_cpus()
    parts = np.split(X[: sum(sizes)], [sizes[0]])
    # A stand-in must count for nothing.
    parts = [part if len(part) else np.full_like(X[:1], 1e6) for part in parts]
    x = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    examples = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(sizes[context.replica_id_in_sync_group])
    )

    @tf.function
    def step():
        def on_replica(x, examples):
            with active_step.activate(make_step(strategy, examples)):
                return nn._compute_moments_sync(x, [0, 1], keepdims)

        return strategy.run(on_replica, args=(x, examples))

    return zip(*(strategy.experimental_local_results(value) for value in step()))


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("sizes", [(3, 3), (5, 2), (4, 0)], ids=str)
def test_moments_over_all_examples(sizes, keepdims):
    def keras_step(strategy, examples):
        return KerasStep(strategy.communicator(), strategy.replica_id(), examples, None)

    rows = X[: sum(sizes)]
    for mean, variance in moments_of(sizes, keras_step, keepdims):
        np.testing.assert_allclose(mean, rows.mean((0, 1), keepdims=keepdims), rtol=1e-12)
        np.testing.assert_allclose(variance, rows.var((0, 1), keepdims=keepdims), rtol=1e-10)


def test_a_custom_loop_has_keras_own():
    def step(strategy, examples):
        return Step(strategy.communicator(), strategy.replica_id())

    for mean, variance in moments_of((5, 2), step):
        np.testing.assert_allclose(mean, X.mean((0, 1)), rtol=1e-12)
        np.testing.assert_allclose(variance, X.var((0, 1)), rtol=1e-10)
