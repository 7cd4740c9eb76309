"""Who looks at the model, after an epoch or after `fit`, sees the average of the replicas'."""

import keras
import numpy as np
import plain_replicas
import pytest
import tensorflow as tf
from gradient_sync_features import BATCH, FEATURES, Training, X, Y, adam
from upstream import two_cpus

from tfdist.callbacks import DiLoCo, LocalSGD

STEPS = 7  # an epoch


def averages_of(training, period, epochs):
    """The average models at the ends of epochs of plain replicas, which average each `period`."""
    replicas = plain_replicas.PlainReplicas(training.make, plain_replicas.LocalSgd(period))
    average, found = training.make(), []
    for _ in range(epochs):
        for batch in training.batches():
            replicas.step(batch)
        replicas.average_into(average)
        found.append(average.get_weights())
    return found


def fit(training, callbacks, epochs=1, **options):
    model = training.make(two_cpus())
    history = model.fit(
        **training.arguments(), epochs=epochs, verbose=0, callbacks=callbacks, **options
    )
    return model, history.history


def assert_close(found, expected, tolerance=2e-5):
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def diverging():
    """A training whose validation loss grows after its first epochs, with its averages."""
    keras.config.set_dtype_policy("float32")
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([2 * STEPS], [0.05, 0.45])
    training = FEATURES["momentum and a short last batch"]()
    training.optimizer = lambda: keras.optimizers.SGD(rate)
    return training, averages_of(training, 3, 4)


def test_the_best_average_model_is_restored_and_saved(diverging, tmp_path):
    training, averages = diverging
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    best = keras.callbacks.ModelCheckpoint(str(tmp_path / "best.keras"), save_best_only=True)
    model, history = fit(
        training, [stopping, saving, best, LocalSGD(3)], epochs=9, validation_data=(X, Y)
    )
    losses = history["val_loss"]
    assert np.argmin(losses) == 1 and len(losses) == 4  # or this tests nothing
    assert_close(model.get_weights(), averages[1])
    for epoch, expected in enumerate(averages):
        file = keras.saving.load_model(tmp_path / f"{epoch + 1}.keras")
        # What diverges makes rounding grow.
        assert_close(file.get_weights(), expected, tolerance=2e-5 if epoch < 2 else 1e-2)
    saved = keras.saving.load_model(tmp_path / "best.keras")
    assert_close(saved.get_weights(), model.get_weights(), tolerance=0)
    # A file knows nothing of replicas: the same numbers in one process.
    one = training.make()
    one.set_weights(saved.get_weights())
    assert abs(plain_replicas.loss_of(one, (X, Y)) - losses[1]) < 1e-5


def test_evaluate_and_predict_after_fit():
    training = FEATURES["momentum and a short last batch"]()
    (expected,) = averages_of(training, 100, 1)
    model, history = fit(training, [LocalSGD(100)], validation_data=(X, Y))
    one = training.make()
    one.set_weights(expected)
    loss = plain_replicas.loss_of(one, (X, Y))
    assert_close([plain_replicas.loss_of(model, (X, Y)), history["val_loss"][0]], [loss, loss])
    assert_close(model.predict(X, batch_size=BATCH, verbose=0), one.predict(X, verbose=0))


class Looking(keras.callbacks.Callback):
    """Uses the model at the end of each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.get_weights()
        self.model.predict(X, verbose=0)


def test_looking_changes_no_bit():
    def bits(*callbacks, **options):
        training = FEATURES["batch normalization"]()
        training.optimizer = adam()
        model, _ = fit(training, list(callbacks), epochs=2, **options)
        return [v.numpy().tobytes() for v in [*model.variables, *model.optimizer.variables]]

    def make():
        return DiLoCo(4, fragments=2)

    assert bits(make(), Looking(), validation_data=(X, Y)) == bits(make())


class SetWeights(keras.callbacks.Callback):
    """Assigns the model at the end of the first epoch."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.model.set_weights(self.weights)


def test_weights_that_a_callback_sets_at_the_end_of_an_epoch_are_trained_on():
    training = FEATURES["momentum and a short last batch"]()
    training.optimizer = lambda: keras.optimizers.SGD(0.05)
    weights = [np.full_like(w, 0.1) for w in training.make().get_weights()]
    # An average at step 10, when each replica has come three steps from these weights.
    replicas = plain_replicas.PlainReplicas(training.make, plain_replicas.LocalSgd(10))
    average = training.make()
    for batch in training.batches():
        replicas.step(batch)
    replicas.assign("trainable", weights)
    for batch in training.batches():
        replicas.step(batch)
    replicas.average_into(average)
    model, _ = fit(training, [SetWeights(weights), LocalSGD(10)], epochs=2)
    assert_close(model.get_weights(), average.get_weights())


def next_floats(weights):
    return [np.nextafter(w, np.inf, dtype=w.dtype) for w in weights]


def by_assign(model):
    for variable, value in zip(model.weights, next_floats(model.get_weights())):
        variable.assign(value)


def by_tf_variable(model):
    for variable, value in zip(model.weights, next_floats(model.get_weights())):
        variable.value.assign(value)


def by_checkpoint(model, directory="ram://next_floats"):
    other = keras.models.clone_model(model)
    other.set_weights(next_floats(model.get_weights()))
    path = tf.train.Checkpoint(model=other).write(directory)
    tf.train.Checkpoint(model=model).read(path).assert_consumed()


WAYS = {
    "assign": by_assign,
    "set_weights": lambda model: model.set_weights(next_floats(model.get_weights())),
    "set_weights, the same bits": lambda model: model.set_weights(model.get_weights()),
    "tf.Variable": by_tf_variable,
    "tf.train.Checkpoint": by_checkpoint,
}


class Assigning(keras.callbacks.Callback):
    """Assigns the model in one of the ways at the end of the first epoch."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.way(self.model)


@pytest.fixture(scope="module")
def from_the_average():
    """A training, and the average after two epochs: of replicas that go on from the average."""
    keras.config.set_dtype_policy("float32")
    training = FEATURES["momentum and a short last batch"]()
    training.optimizer = lambda: keras.optimizers.SGD(0.05)
    found = []
    for assigned in (True, False):
        replicas = plain_replicas.PlainReplicas(training.make, plain_replicas.LocalSgd(10))
        average = training.make()
        for _ in range(2):
            for batch in training.batches():
                replicas.step(batch)
            replicas.average_into(average)
            if assigned:
                replicas.assign("trainable", average.get_weights())
        found.append(average.get_weights())
    going_on, apart = found
    assert max(np.max(np.abs(a - b)) for a, b in zip(going_on, apart)) > 1e-3
    return training, going_on


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_smallest_change_that_a_callback_assigns_is_trained_on(way, from_the_average):
    training, expected = from_the_average
    model, _ = fit(training, [Assigning(way), LocalSGD(10)], epochs=2)
    assert_close(model.get_weights(), expected)


def test_swapping_and_looking_changes_no_bit():
    def bits(*callbacks, **options):
        training = FEATURES["ema"]()
        training.optimizer = adam(use_ema=True, ema_momentum=0.8)
        model, _ = fit(training, [*callbacks, LocalSGD(3)], epochs=3, **options)
        return [v.numpy().tobytes() for v in [*model.variables, *model.optimizer.variables]]

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    again = keras.callbacks.SwapEMAWeights()
    plain = bits()
    assert bits(swap, Looking()) == plain
    assert bits(again, Looking(), validation_data=(X, Y)) == plain


def test_swapping_in_the_moving_averages_for_validation():
    """Keras' `SwapEMAWeights` at each epoch's end: validation of the average of the averages."""
    training = Training(FEATURES["ema"]().model, adam(use_ema=True, ema_momentum=0.8))
    replicas = plain_replicas.PlainReplicas(training.make, plain_replicas.LocalSgd(3))
    average, losses = training.make(), []
    for _ in range(2):
        for batch in training.batches():
            replicas.step(batch)
        replicas.average_into(average, ema=True)
        losses.append(plain_replicas.loss_of(average, (X, Y)))
    swap = keras.callbacks.SwapEMAWeights()
    model, history = fit(training, [swap, LocalSGD(3)], epochs=2, validation_data=(X, Y))
    np.testing.assert_allclose(history["val_loss"], losses, rtol=1e-4)
    assert_close(model.get_weights(), average.get_weights(), tolerance=1e-4)
