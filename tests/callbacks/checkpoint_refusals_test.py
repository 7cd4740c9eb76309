"""What `Checkpoint` refuses before any work: other trainings, data that cannot be read again."""

import inspect

import checkpoint_cases as cases
import devices
import keras
import pytest
import tensorflow as tf
from checkpoint_cases import X, Y, batches_read_once, names
from upstream import two_cpus

import tfdist

pytestmark = pytest.mark.usefixtures("deterministic")


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


@pytest.mark.parametrize(
    "x, message",
    [
        (batches_read_once, "x=generator again after a restart: it is read once"),
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
    model = cases.make_model(tf.distribute.MirroredStrategy(devices.PAIR[:1]))
    with pytest.raises(ValueError, match=r"Use `tfdist.MirroredStrategy`"):
        model.fit(X, Y, verbose=0, callbacks=[tfdist.callbacks.Checkpoint(tmp_path)])


def test_one_that_came_too_late_says_so(tmp_path):
    model, checkpoint = cases.make_model(), tfdist.callbacks.Checkpoint(tmp_path)
    fit_before_tfdist = inspect.unwrap(keras.Model.fit)  # what `model.fit(` was, then
    for _ in range(2):
        with pytest.raises(RuntimeError, match="Create it on a line before the call"):
            fit_before_tfdist(model, X, Y, verbose=0, callbacks=[checkpoint])
        model.fit(X, Y, verbose=0, callbacks=[checkpoint])
