"""A training that was cut short and started again ends as if it had not been.

What it is compared with is the same training, uninterrupted; and, so that this is
not a comparison of two wrong things, that one with a training without `Checkpoint`.
"""

import pathlib
import shutil

import checkpoint_cases as cases
import keras
import numpy as np
import pytest
import tensorflow as tf
from checkpoint_cases import X, Y
from upstream import two_cpus

import tfdist

pytestmark = pytest.mark.usefixtures("deterministic")
STRATEGIES = {"no strategy": lambda: None, "mirrored x2": two_cpus}
# With the data whose place is kept in ways of their own; the others take minutes.
QUICK = {
    "no strategy": ("PyDataset", "tf.data", "shuffled validation"),
    "mirrored x2": ("arrays",),
}


def interrupted(directory, crashes, strategy=None, **options):
    """Trains in `directory`, ended after so many steps once for each of `crashes`, to the end."""
    for steps in crashes:
        with pytest.raises(cases.Crash):
            cases.train(directory, strategy, crash=cases.CrashAt(steps), **options)
    return cases.train(directory, strategy, **options)


@pytest.mark.parametrize(
    ("strategy", "data"),
    [
        pytest.param(strategy, data, marks=[] if data in QUICK[strategy] else [pytest.mark.slow])
        for strategy in STRATEGIES
        for data in cases.DATA
    ],
)
def test_a_resumed_training_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, strategy, data):
    strategy = STRATEGIES[strategy]()
    expected = cases.train(tmp_path / "whole", strategy, data)
    assert len(expected["history"]["loss"]) >= 3  # or there is little to forget
    # After step 4 (the checkpoint of 3); after step 7, in the middle of the second
    # epoch or at its end (steps_per_epoch); and later ones.
    found = interrupted(tmp_path / "cut", [4, 6, 2], strategy, data=data)
    assert found == expected


def test_a_checkpoint_changes_no_number():
    with_checkpoints = cases.whole()
    model = cases.make_model()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", patience=1)
    history = model.fit(
        X, Y, batch_size=cases.BATCH, epochs=cases.EPOCHS, verbose=0,
        validation_data=(X[:11], Y[:11]), callbacks=[stopping, plateau],
    )  # fmt: skip
    assert history.history == with_checkpoints["history"]
    weights = [variable.numpy().tobytes() for variable in model.variables]
    assert weights == with_checkpoints["bits"][: len(weights)]


@pytest.mark.parametrize(
    "strategy", ["no strategy", pytest.param("mirrored x2", marks=pytest.mark.slow)]
)
def test_executions_of_several_steps(tmp_path, strategy):
    strategy = STRATEGIES[strategy]()
    expected = cases.train(tmp_path / "whole", strategy, steps_per_execution=3)
    # 4 + 2 executions: the second resume begins at a last, short batch.
    found = interrupted(tmp_path / "cut", [4, 6], strategy, steps_per_execution=3)
    assert found == expected


def test_a_learning_rate_schedule(tmp_path):
    expected = cases.train(tmp_path / "whole", schedule=True)
    assert interrupted(tmp_path / "cut", [5], schedule=True) == expected


def test_the_same_command_again_returns_at_once_and_more_epochs_go_on(tmp_path):
    expected = cases.train(tmp_path / "long", epochs=4)
    short = cases.train(tmp_path / "cut", epochs=2)
    assert short["epochs"] == [0, 1]
    again = cases.train(tmp_path / "cut", epochs=2, crash=cases.CrashAt(1))  # not one step
    assert again == short
    assert cases.train(tmp_path / "cut", epochs=4) == expected


def test_without_a_seed_the_first_runs_comes_back(tmp_path):
    def train(directory, crash=None):
        with cases.scope_of(None):
            model = cases.make_model()
        tf.random.set_seed(None)
        callbacks = [tfdist.callbacks.Checkpoint(directory, every_steps=1)]
        callbacks += [crash] if crash else []
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        return [variable.numpy().tobytes() for variable in model.variables]

    with pytest.raises(cases.Crash):
        train(tmp_path / "cut", cases.CrashAt(3))
    shutil.copytree(tmp_path / "cut", tmp_path / "copy")
    assert train(tmp_path / "cut") == train(tmp_path / "copy")


class Gan(keras.Model):
    """Two optimizers, of which Keras' `fit` knows nothing."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
        self.discriminator = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        self.seeds = keras.random.SeedGenerator(3)

    def compile(self, first, second):
        super().compile()
        self.first, self.second = first, second

    def train_step(self, data):
        noise = keras.random.normal((8, 2), seed=self.seeds)
        for optimizer, network, sign in (
            (self.first, self.generator, 1.0),
            (self.second, self.discriminator, -1.0),
        ):
            with tf.GradientTape() as tape:
                fake = self.discriminator(self.generator(noise))
                loss = sign * (tf.reduce_mean(fake) - tf.reduce_mean(self.discriminator(data)))
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


def test_optimizers_that_are_attributes_of_a_model(tmp_path):
    def train(directory, crash=None):
        keras.utils.set_random_seed(1)
        model = Gan()
        model.compile(keras.optimizers.Adam(0.1), keras.optimizers.Adam(0.05))
        callbacks = [tfdist.callbacks.Checkpoint(directory, every_steps=2)]
        callbacks += [crash] if crash else []
        x = tf.data.Dataset.from_tensor_slices(X[:48]).shuffle(48).batch(8)
        history = model.fit(x, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        variables = [*model.variables, *model.first.variables, *model.second.variables]
        return [variable.numpy().tobytes() for variable in variables], history.history

    expected = train(tmp_path / "whole")
    with pytest.raises(cases.Crash):
        train(tmp_path / "cut", cases.CrashAt(5))
    assert train(tmp_path / "cut") == expected


class Counting(keras.callbacks.Callback):
    """A callback of a user's own, with state."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1

    def get_state(self):
        return {"seen": self.seen}

    def set_state(self, state):
        self.seen = state["seen"]


def test_the_state_of_other_callbacks(tmp_path):
    path = str(tmp_path / "model-{epoch}-{batch}.weights.h5")

    def train(crash=None):
        counting = Counting()
        saving = keras.callbacks.ModelCheckpoint(path, save_weights_only=True, save_freq=5)
        callbacks = [tfdist.callbacks.Checkpoint(tmp_path / "cut", 3), counting, saving]
        callbacks += [crash] if crash else []
        model = cases.make_model()
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        return counting.seen

    with pytest.raises(cases.Crash):
        train(cases.CrashAt(4))
    assert train() == 14
    saved = sorted(file.name for file in pathlib.Path(tmp_path).glob("*.h5"))
    assert saved == ["model-1-5.weights.h5", "model-2-3.weights.h5"]  # steps 5 and 10


def test_bits_tell_trainings_apart(tmp_path):
    """Were the comparisons above blind, this would be equal too."""
    expected = cases.train(tmp_path / "a", epochs=1)
    other = cases.train(tmp_path / "b", epochs=1, steps_per_execution=1, schedule=True)
    assert np.any([a != b for a, b in zip(expected["bits"], other["bits"])])
