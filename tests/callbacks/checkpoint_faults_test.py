"""Broken files, full disks and trainings that raise: the checkpoint before is whole and used."""

import checkpoint_cases as cases
import pytest
import tensorflow as tf
from checkpoint_cases import X, Y, batches_read_once, names

import tfdist
from tfdist.checkpointing.files import WorkerFiles
from tfdist.compat import coordination

pytestmark = pytest.mark.usefixtures("deterministic")


def test_a_broken_checkpoint_is_noticed_and_the_one_before_it_used(tmp_path):
    expected = cases.whole()
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
        pytest.raises(
            RuntimeError, match=r"none that is complete on all.*start from the beginning"
        ),
    ):
        cases.train(tmp_path)
    assert names(tmp_path) == before


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
    expected = cases.whole()
    with monkeypatch.context() as patch:
        FullDisk(patch, 2)
        with pytest.warns(UserWarning, match="No space left on device.*Training goes on"):
            assert cases.train(tmp_path / "full") == expected
    assert names(tmp_path / "full") == ["step-00000003", "step-00000006"]
    assert cases.train(tmp_path / "full") == expected


def test_a_full_disk_stops_if_it_shall(tmp_path, monkeypatch):
    FullDisk(monkeypatch, 1)
    with pytest.raises(OSError, match=r"No space left.*The previous checkpoint is complete"):
        cases.train(tmp_path, on_write_error="stop")
    assert names(tmp_path) == ["step-00000003"]


def test_a_fit_that_raised_leaves_no_trace(tmp_path, seedless):
    model = cases.make_model()
    tf.random.set_seed(None)
    checkpoint = tfdist.callbacks.Checkpoint(tmp_path, every_steps=3)
    with pytest.raises(cases.Crash):
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[checkpoint, cases.CrashAt(9)])
    with pytest.raises(ValueError, match="read once"):
        model.fit(batches_read_once(), verbose=0, callbacks=[checkpoint])
    # A fit without the callback begins at its first epoch and step.
    history = model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
    assert history.epoch == [0, 1]
    assert coordination.global_seed() is None  # `Checkpoint` had chosen one
