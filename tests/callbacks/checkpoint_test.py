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
from tensorflow.python.framework import config
from upstream import two_cpus

import tfdist
from tfdist.checkpointing.files import WorkerFiles
from tfdist.compat import coordination

STRATEGIES = {"no strategy": lambda: None, "mirrored x2": two_cpus}


@pytest.fixture(scope="module", autouse=True)
def deterministic():
    tf.config.experimental.enable_op_determinism()
    yield
    config.disable_op_determinism()


@pytest.fixture
def seedless():
    """TensorFlow refuses what is random without a seed where operations are deterministic."""
    config.disable_op_determinism()
    yield
    tf.config.experimental.enable_op_determinism()


def interrupted(directory, crashes, strategy=None, **options):
    """Trains in `directory`, ended after so many steps once for each of `crashes`, to the end."""
    for steps in crashes:
        with pytest.raises(cases.Crash):
            cases.train(directory, strategy, crash=cases.CrashAt(steps), **options)
    return cases.train(directory, strategy, **options)


def names(directory):
    return WorkerFiles(directory, 0).names()


@pytest.mark.parametrize(
    ("strategy", "data"),
    [
        # What data is read is the same thing on replicas, where all of it takes minutes.
        pytest.param(strategy, data, marks=[pytest.mark.slow] * (i > 0 and data != "arrays"))
        for i, strategy in enumerate(STRATEGIES)
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


def test_a_checkpoint_changes_no_number(tmp_path):
    with_checkpoints = cases.train(tmp_path)
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


def test_a_broken_checkpoint_is_noticed_and_the_one_before_it_used(tmp_path):
    expected = cases.train(tmp_path / "whole")
    directory = tmp_path / "cut"
    with pytest.raises(cases.Crash):
        cases.train(directory, crash=cases.CrashAt(11))
    assert names(directory) == ["step-00000007-epoch", "step-00000009"]
    newest = directory / "step-00000009" / "worker-0.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    # And what a kill in the middle of writing leaves.
    half = directory / "step-00000012" / "worker-0.partial"
    half.parent.mkdir()
    half.write_bytes(content[:1000])
    with pytest.warns(UserWarning, match="broken checkpoint is not used.*step-00000009"):
        found = cases.train(directory)
    assert found == expected
    assert not half.exists()


def test_none_whole_is_an_error_that_removes_nothing(tmp_path):
    with pytest.raises(cases.Crash):
        cases.train(tmp_path, crash=cases.CrashAt(8))
    for name in names(tmp_path):
        (tmp_path / name / "worker-0.npz").write_bytes(b"nothing")
    before = names(tmp_path)
    with (
        pytest.warns(UserWarning, match="broken"),
        pytest.raises(RuntimeError, match=r"none that all workers have whole.*begin anew"),
    ):
        cases.train(tmp_path)
    assert names(tmp_path) == before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    cases.train(directory, epochs=1)
    return directory


@pytest.mark.parametrize(
    "options, message",
    [
        ({"units": 9}, r"another model: variable 0 of the model is \(4, 8\) float32 there"),
        ({"schedule": True}, "another model: it has .* variables of the optimizer"),
        ({"steps_per_execution": 2}, "steps_per_execution=1, this `fit` has steps_per_execution=2"),
        ({"data": "PyDataset"}, "batch_size=8, this `fit` has batch_size=None"),
        ({"data": "tf.data"}, "pipeline of the seeds .*set_random_seed"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_before_any_work(finished, options, message):
    before = names(finished)
    with pytest.raises(ValueError, match=message):
        cases.train(finished, epochs=2, crash=cases.CrashAt(1), **options)
    assert names(finished) == before  # its own training may still go on


def test_another_number_of_replicas_or_another_version_is_refused(finished, monkeypatch):
    with pytest.raises(ValueError, match="written with replicas 1; this training has replicas 2"):
        cases.train(finished, two_cpus(), epochs=2)
    monkeypatch.setattr(tfdist, "__version__", "99.0")
    with pytest.raises(ValueError, match=r"written with tfdist .*; this training has tfdist 99.0"):
        cases.train(finished, epochs=2)


def _batches():
    yield X, Y


@pytest.mark.parametrize(
    "x, message",
    [
        (lambda: _batches(), "x=generator again after a restart: it is read once"),
        (
            lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(8).map(
                lambda x, y: (x, y), num_parallel_calls=2, deterministic=False
            ),
            "depends on timing",
        ),
        (
            lambda: tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(9).batch(8),
            "random without a seed. Call `keras.utils.set_random_seed",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be_read_again_is_refused_before_any_work(tmp_path, seedless, x, message):
    model = cases.make_model()
    tf.random.set_seed(None)
    with pytest.raises(ValueError, match=message):
        model.fit(x(), verbose=0, callbacks=[tfdist.callbacks.Checkpoint(tmp_path)])
    assert not model.built and names(tmp_path) == []


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


class FullDisk:
    """Lets so many checkpoints be written, and then none."""

    def __init__(self, monkeypatch, writes):
        write = WorkerFiles.write

        def full(files, name, header, arrays):
            nonlocal writes
            writes -= 1
            if writes >= 0:
                return write(files, name, header, arrays)
            path = files.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".partial").write_bytes(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(WorkerFiles, "write", full)


def test_a_full_disk_warns_and_training_goes_on_with_the_one_before_whole(tmp_path, monkeypatch):
    expected = cases.train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        FullDisk(patch, 2)
        with pytest.warns(UserWarning, match="No space left on device.*Training goes on"):
            assert cases.train(tmp_path / "full") == expected
    assert names(tmp_path / "full") == ["step-00000003", "step-00000006"]
    assert cases.train(tmp_path / "full") == expected


def test_a_full_disk_stops_if_it_shall(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 1)
    with pytest.raises(OSError, match=r"No space left.*The checkpoint before it is whole"):
        cases.train(tmp_path, on_write_error="stop")
    assert names(tmp_path) == ["step-00000003"]


def test_a_fit_that_raised_leaves_no_trace(tmp_path, seedless):
    model = cases.make_model()
    tf.random.set_seed(None)
    checkpoint = tfdist.callbacks.Checkpoint(tmp_path, every_steps=3)
    with pytest.raises(cases.Crash):
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[checkpoint, cases.CrashAt(9)])
    with pytest.raises(ValueError, match="read once"):
        model.fit(_batches(), verbose=0, callbacks=[checkpoint])
    # A fit without the callback begins at its first epoch and step.
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert history.epoch == [0, 1]
    assert coordination.global_seed() is None  # `Checkpoint` had chosen one


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


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"every_steps": 0}, "every_steps=0: expected None or an int of at least 1"),
        ({"max_to_keep": 1}, "max_to_keep=1: expected an int of at least 2"),
        ({"on_write_error": "ignore"}, 'expected "warn" or "stop"'),
    ],
)
def test_arguments_are_checked(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        tfdist.callbacks.Checkpoint(tmp_path, **arguments)


def test_two_checkpoints_in_one_fit_are_refused(tmp_path):
    both = [tfdist.callbacks.Checkpoint(tmp_path / name) for name in "ab"]
    with pytest.raises(ValueError, match="two `Checkpoint` callbacks"):
        cases.make_model().fit(X, Y, verbose=0, callbacks=both)


def test_a_stock_strategy_is_refused(tmp_path):
    model = cases.make_model(tf.distribute.MirroredStrategy(["CPU:0"]))
    with pytest.raises(ValueError, match=r"Use `tfdist.MirroredStrategy`"):
        model.fit(X, Y, verbose=0, callbacks=[tfdist.callbacks.Checkpoint(tmp_path)])


def test_bits_tell_trainings_apart(tmp_path):
    """Were the comparisons above blind, this would be equal too."""
    expected = cases.train(tmp_path / "a", epochs=1)
    other = cases.train(tmp_path / "b", epochs=1, steps_per_execution=1, schedule=True)
    assert np.any([a != b for a, b in zip(expected["bits"], other["bits"])])
