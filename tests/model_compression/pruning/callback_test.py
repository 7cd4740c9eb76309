"""The model stays a plain one, masks hold, and other callbacks go with it."""

import contextlib
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf
from keras import layers
from pruning_cases import RNG, SCOPES, SIZES, Watch, X, Y, build, fit, kernels, zeros

import tfdist
from tfdist import model_compression as compression


def test_the_model_stays_a_plain_one(tmp_path):
    model, plain = build("two replicas"), build()
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
    assert model.count_params() == plain.count_params()
    assert [w.path for w in model.weights] == [w.path for w in plain.weights]
    fit(plain, epochs=1)
    shown = [[], []]
    for lines, one in zip(shown, (model, plain)):
        one.summary(print_fn=lambda text, lines=lines: lines.append(text))
    assert shown[0] == shown[1]
    model.save(tmp_path / "pruned.keras")
    program = (
        "import sys, keras, numpy as np\n"
        f"model = keras.saving.load_model({str(tmp_path / 'pruned.keras')!r})\n"
        "assert 'tfdist' not in sys.modules\n"
        "print([int((w == 0).sum()) for w in model.get_weights()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([int((w == 0).sum()) for w in model.get_weights()])


def test_masks_hold_in_a_later_fit_without_the_callback():
    for where in SCOPES:
        model = build(where)
        fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
        before, gone = kernels(model), zeros(model)
        watch = Watch()
        fit(model, watch, epochs=1)
        assert all(seen == gone for seen in watch.seen)
        assert not np.array_equal(kernels(model)["hidden"], before["hidden"])


def test_masks_are_found_again_from_the_zeros_of_a_file(tmp_path):
    model = build()
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.75)), epochs=1)
    model.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    pruning = compression.prune(loaded)  # holds what is zero
    fit(loaded, pruning, epochs=1)
    assert zeros(loaded) == zeros(model)
    for one, other in zip(kernels(loaded).values(), kernels(model).values()):
        np.testing.assert_array_equal(one == 0, other == 0)
    more = compression.prune(loaded, schedule=compression.Constant(final=0.9))
    fit(loaded, more, epochs=1)
    for one, other in zip(kernels(loaded).values(), kernels(model).values()):
        assert np.all(one[other == 0] == 0)
    assert zeros(loaded) == {name: round(0.9 * size) for name, size in SIZES.items()}


def test_a_kernel_that_begins_at_zero_is_not_taken_for_a_pruned_one():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, kernel_initializer="zeros")])
    model.compile("sgd", "mse")
    pruning = compression.prune(model, schedule=compression.Constant(final=0.5, begin=4))
    model.fit(RNG.normal(size=(32, 4)), RNG.normal(size=(32, 3)), 4, verbose=0, callbacks=[pruning])
    assert int(np.sum(model.layers[0].kernel.numpy() == 0)) == 6


def test_under_local_training_masks_are_those_of_the_average_model():
    model, watch = build("two replicas", ("SGD", {})), Watch()
    pruning = compression.prune(model, schedule=compression.Constant(final=0.5, begin=2))
    local = tfdist.callbacks.LocalSGD(period=4)
    fit(model, pruning, local, watch)
    half = {name: size // 2 for name, size in SIZES.items()}
    assert watch.seen == [dict.fromkeys(SIZES, 0)] * 3 + [half] * 13  # at a synchronisation
    assert zeros(model) == half
    for weight in (model.get_layer(name).kernel for name in SIZES):
        one, other = (replica.numpy() for replica in weight.value.values)
        np.testing.assert_array_equal(one == 0, other == 0)
    assert pruning.report().sparsity == 0.5


class Stop(Exception):
    pass


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise Stop


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_a_resumed_training_ends_with_the_same_bits(where, tmp_path):
    def train(directory, *callbacks):
        model = build(where)
        schedule = compression.Cubic(final=0.8, begin=2, end=12, frequency=2)
        pruning = compression.prune(model, schedule=schedule, criterion="random")
        checkpoint = tfdist.callbacks.Checkpoint(tmp_path / directory, every_steps=3)
        fit(model, pruning, checkpoint, *callbacks)
        return model.get_weights()

    whole = train("whole")
    with pytest.raises(Stop):
        train("stopped", StopAt(7))
    for one, other in zip(train("stopped"), whole):
        np.testing.assert_array_equal(one, other)


def test_the_fit_of_another_model():
    pruning = compression.prune(build(), schedule=compression.Constant(0.5))
    with pytest.raises(ValueError, match=r"made for the model .* the callback that `prune`"):
        fit(build(), pruning)


class OwnStep(keras.Model):
    """A train step of the user's own."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(y - self(x, training=True)))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        return {"loss": loss}


@pytest.mark.parametrize("where", ["no strategy", "two replicas"])
def test_an_own_train_step_and_train_on_batch_keep_the_masks(where):
    strategy = SCOPES[where]()
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        model = OwnStep()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        model(X[:2, 0, 0])
    x = X[:, 0, 0]
    pruning = compression.prune(model, schedule=compression.Constant(final=0.5, begin=2))
    model.fit(x, Y, 8, verbose=0, callbacks=[pruning])
    before = model.dense.kernel.numpy()
    assert int(np.sum(before == 0)) == 6
    model.fit(x, Y, 8, verbose=0)
    model.train_on_batch(x[:8], Y[:8])
    after = model.dense.kernel.numpy()
    np.testing.assert_array_equal(after == 0, before == 0)
    assert np.all(after[before != 0] != before[before != 0])


@pytest.mark.parametrize(
    "where", ["no strategy", pytest.param("two replicas", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("inside", [True, False])
def test_masks_hold_where_another_model_trains_the_layers(where, inside):
    model = build(where)
    pruning = compression.prune(model, schedule=compression.Constant(final=0.75))
    pruning.apply()
    before, gone = kernels(model), zeros(model)
    strategy = model.distribute_strategy if where != "no strategy" else None
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        x = model.inputs[0]
        y = model(x) if inside else model.layers[-1].output
        outer = keras.Model(x, layers.Dense(4)(y))
        optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
        outer.compile(optimizer, "mse")
    for _ in range(2):  # at the end of `fit` the averages become the weights
        outer.fit(X, Y, 8, verbose=0)
        assert zeros(model) == gone
    assert not np.array_equal(kernels(model)["hidden"], before["hidden"])


def test_earlier_masks_of_another_kind_go_on_to_hold():
    model = build()
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.5)), epochs=1)
    before = kernels(model)
    half = compression.Constant(final=0.5)
    filters = compression.prune(model, "l2", "filter", half, filters="convolution|hidden")
    fit(model, filters, epochs=1)
    assert filters.report().sparsity == 0.5
    for name, kernel in kernels(model).items():
        assert np.all(kernel[before[name] == 0] == 0), name
    # Weights again: their zeros are found, and the first masks are no longer needed.
    fit(model, compression.prune(model, schedule=compression.Constant(final=0.8)), epochs=1)
    assert all(found >= round(0.8 * SIZES[name]) for name, found in zeros(model).items())
    assert len(vars(model)["_tfdist_pruning"]) == 2
