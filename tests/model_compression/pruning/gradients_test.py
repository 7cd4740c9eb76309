"""Criteria that see gradients: in every kind of `fit`, resumed, and where they are refused."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf
from gradient_pruning_cases import WAYS, X, Y, build, fit
from keras import layers

import tfdist
from tfdist import model_compression as compression

CRITERIA = {
    "taylor": compression.Cubic(0.5, begin=1, end=5, frequency=2),
    "snip": compression.Constant(0.5),
    "movement": compression.Cubic(0.5, begin=1, end=5, frequency=1),
    "soft_movement": compression.Cubic(0.4, begin=1, end=5, frequency=1),
    "rigl": compression.Constant(0.5),
}


def criterion(name):
    if name == "soft_movement":
        return compression.SoftMovement(penalty=0.5, learning_rate=0.8)
    return compression.RigL(frequency=2, alpha=0.5) if name == "rigl" else name


def train(where, name, *callbacks, **build_arguments):
    model = build(where, **build_arguments)
    pruning = compression.prune(model, criterion(name), schedule=CRITERIA[name])
    fit(model, pruning, *callbacks)
    return model, pruning


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"steps_per_execution": 2},
        {"run_eagerly": True},
        {"optimizer": keras.optimizers.Adam, "arguments": {"gradient_accumulation_steps": 2}},
        {"optimizer": keras.optimizers.AdamW, "arguments": {"use_ema": True, "clipnorm": 0.1}},
    ],
    ids=["jit_compile", "steps_per_execution", "run_eagerly", "accumulation", "AdamW"],
)
@pytest.mark.parametrize("name", CRITERIA)
def test_replicas_train_what_one_process_does(name, arguments):
    found = {}
    for where in WAYS:
        model, pruning = train(where, name, **arguments)
        found[where] = model.get_weights(), pruning.get_state()
    expected, state = found.pop("no strategy")
    assert 0 < (expected[0] == 0).sum() < 24
    for weights, other in found.values():
        np.testing.assert_array_equal(weights[0] == 0, expected[0] == 0)
        np.testing.assert_allclose(weights[0], expected[0], atol=1e-9)
        for one, two in zip(other["criterion"], state["criterion"]):
            np.testing.assert_allclose(one, two, atol=1e-9)


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("where", "name"),
    [("two replicas", "movement"), ("no strategy", "rigl")]
    + [
        pytest.param("two replicas", name, marks=pytest.mark.slow)
        for name in ("taylor", "snip", "soft_movement", "rigl")
    ],
)
def test_a_resumed_training_ends_with_the_same_bits(where, name, tmp_path):
    def stop(batch, logs):
        left.pop()
        if not left:
            raise Stop

    def run(directory, *callbacks):
        checkpoint = tfdist.callbacks.Checkpoint(tmp_path / directory, every_steps=1)
        model, pruning = train(where, name, checkpoint, *callbacks)
        return [*model.get_weights(), *pruning.get_state()["criterion"]]

    whole, left = run("whole"), [None] * 4
    with pytest.raises(Stop):
        run("stopped", keras.callbacks.LambdaCallback(on_train_batch_end=stop))
    for one, other in zip(run("stopped"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_under_local_methods_each_replica_has_its_own_gradients():
    with pytest.raises(ValueError, match=r"Taylor.* under LocalSGD each replica has its own"):
        train("two replicas", "taylor", tfdist.callbacks.LocalSGD(period=2))


def test_compressed_gradients_are_reduced_in_each_step():
    model, _ = train("two replicas", "taylor", tfdist.callbacks.SyncSGD())
    plain, _ = train("no strategy", "taylor")
    np.testing.assert_allclose(model.get_weights()[0], plain.get_weights()[0], atol=1e-9)


class OwnStep(keras.Model):
    """A train step of the user's own, which updates its first layer alone."""

    def __init__(self, frozen=False):
        super().__init__()
        self.dense, self.other, self.frozen = layers.Dense(4), layers.Dense(4), frozen

    def call(self, x):
        return self.dense(x) + self.other(x)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
        trained = self.dense.trainable_variables
        trained = trained if self.frozen else trained + self.other.trainable_variables
        self.optimizer.apply(tape.gradient(loss, trained), trained)
        return {"loss": loss}


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_own_train_step(where, frozen):
    strategy = WAYS[where]() or tf.distribute.get_strategy()
    with strategy.scope():
        model = OwnStep(frozen)
        model.compile(keras.optimizers.SGD(0.1))
        model(X[:2])
    pruning = compression.prune(model, "taylor", schedule=compression.Constant(0.5, begin=2))
    if frozen:
        with pytest.raises(ValueError, match=r"kernel' has no gradient in this .*Taylor scores"):
            fit(model, pruning)
        return
    fit(model, pruning)
    for layer in (model.dense, model.other):
        assert (layer.kernel.numpy() == 0).sum() == 12
    assert pruning.get_state()["criterion"][1].any()


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_models_inside_of_the_one_that_is_trained(where):
    strategy = WAYS[where]() or tf.distribute.get_strategy()
    with strategy.scope():
        inner = [keras.Sequential([keras.Input((n,)), layers.Dense(4)]) for n in (6, 4)]
        outer = keras.Sequential([keras.Input((6,)), *inner])
        outer.compile(keras.optimizers.SGD(0.1), "mse")
    schedule = compression.Constant(0.5, begin=2)
    prunings = [compression.prune(one, "taylor", schedule=schedule) for one in inner]
    fit(outer, *prunings)
    for one, pruning in zip(inner, prunings):
        assert (one.get_weights()[0] == 0).mean() == 0.5
        assert pruning.get_state()["criterion"][0].any()


def test_a_fit_that_was_looked_up_before_prune_was_called():
    program = (
        "import numpy as np, keras, tfdist\n"
        "model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])\n"
        "model.compile('sgd', 'mse')\n"
        "prune, schedule = tfdist.model_compression.prune, tfdist.model_compression.Constant(0.5)\n"
        "model.fit(np.ones((20, 6)), np.ones((20, 4)), verbose=0,\n"
        "          callbacks=[prune(model, 'taylor', schedule=schedule)])\n"
        "assert (model.get_weights()[0] == 0).sum() == 12\n"
        "assert vars(model.optimizer)['_tfdist_before_apply'] == []"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
    )
    assert done.returncode == 0, done.stderr


def test_without_a_step_there_are_no_gradients_to_prune_by():
    pruning = compression.prune(build(), "snip", schedule=compression.Constant(0.5))
    with pytest.raises(ValueError, match="`apply`: SNIP scores weights by the gradients of trai"):
        pruning.apply()


def test_a_criterion_that_needs_no_gradients_does_not_trace_them(monkeypatch):
    monkeypatch.setattr(
        "tfdist.sync.before_update.BeforeUpdate.linked",
        lambda self, link: pytest.fail("linked"),
    )
    model = build()
    fit(model, compression.prune(model, schedule=compression.Constant(0.5)))
    model.fit(X, Y, verbose=0)
    assert "_tfdist_before_apply" not in vars(model.optimizer)


def test_taylor_of_whole_neurons():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(5), layers.Dense(4)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    pruning = compression.prune(
        model, "taylor", structure="filter", schedule=compression.Constant(0.4, begin=1)
    )
    first, second = (v for v in model.trainable_variables if len(v.shape) == 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(X[:8]) - Y[:8]))
    one, two = tape.gradient(loss, [first.value, second.value])
    score = (np.sum(one * first.numpy(), 0) + np.sum(two * second.numpy(), 1)) ** 2
    fit(model, pruning, epochs=1)
    gone = np.all(first.numpy() == 0, axis=0)
    np.testing.assert_array_equal(np.flatnonzero(gone), np.sort(np.argsort(score)[:2]))
