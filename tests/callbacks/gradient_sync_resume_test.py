"""`Checkpoint` beside a gradient-sync callback: a resumed training ends with the same bits.

On replicas of one process; two workers that are killed are in
`gradient_sync_workers_test.py`.
"""

import contextlib
import warnings

import checkpoint_cases as cases
import keras
import pytest
from upstream import two_cpus

from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync, SyncSGD

pytestmark = pytest.mark.usefixtures("deterministic")

CALLBACKS = {
    "LocalSGD": lambda: LocalSGD(4, slow_momentum=0.5),
    "streaming DiLoCo": lambda: DiLoCo(4, fragments=2),
    "PartialSync": lambda: PartialSync(2, 4),
}


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, id=name, marks=[] if name == "LocalSGD" else pytest.mark.slow)
     for name, make in CALLBACKS.items()],
)  # fmt: skip
def test_a_resumed_training_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, make):
    strategy = two_cpus()
    expected = cases.train(tmp_path / "whole", strategy, sync=make())
    # At step 5 (the checkpoint of 3 is in the middle of a period); at the end of the
    # first epoch, where the average is shown; in the second one.
    for crash in (cases.CrashAt(5), cases.CrashAtEpoch(1), cases.CrashAt(8)):
        with pytest.raises(cases.Crash):
            cases.train(tmp_path / "cut", strategy, crash=crash, sync=make())
    assert cases.train(tmp_path / "cut", strategy, sync=make()) == expected
    # It has ended: not one step more.
    again = cases.train(tmp_path / "cut", strategy, crash=cases.CrashAt(1), sync=make())
    assert again == expected


class SetAtEpochEnd(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.set_weights([0.5 * weight for weight in self.model.get_weights()])


@pytest.mark.slow
def test_what_a_callback_assigned_at_the_end_of_an_epoch_is_saved(tmp_path):
    def train(directory, crash=None):
        found = cases.train(
            directory, two_cpus(), clock=SetAtEpochEnd(), crash=crash, sync=LocalSGD(4)
        )
        return found["bits"]

    expected = train(tmp_path / "whole")
    with pytest.raises(cases.Crash):
        train(tmp_path / "cut", cases.CrashAt(8))  # after the save of the first epoch
    assert train(tmp_path / "cut") == expected


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    directory = tmp_path_factory.mktemp("started")
    with pytest.raises(cases.Crash):
        cases.train(directory, two_cpus(), crash=cases.CrashAt(4), sync=LocalSGD(4))
    return directory


@pytest.mark.parametrize(
    ("make", "mine"),
    [
        (lambda: None, "None"),
        (lambda: SyncSGD(), "SyncSGD(warmup_steps=0)"),
        (lambda: DiLoCo(4), "DiLoCo(period=4, fragments=1, outer_optimizer=SGD(learning_rate=0.7"),
        (lambda: LocalSGD(5), "LocalSGD(period=5, warmup_steps=0"),
    ],
)
def test_another_algorithm_than_the_checkpoints_is_refused(started, make, mine):
    with pytest.raises(ValueError, match=r"with gradient sync LocalSGD\(period=4, ") as e:
        cases.train(started, two_cpus(), crash=cases.CrashAt(1), sync=make())
    assert f"this training has gradient sync {mine}" in str(e.value)


def test_without_a_strategy_training_is_plain_and_resumes(tmp_path):
    """One warning each time, and the bits of a training without the callback."""
    expected = cases.whole()
    for crash in (cases.CrashAt(5), None):
        with warnings.catch_warnings(record=True) as warned:
            warnings.filterwarnings("always", category=UserWarning)
            with contextlib.suppress(cases.Crash):
                found = cases.train(tmp_path / "cut", crash=crash, sync=LocalSGD(4))
        (text,) = [str(w.message) for w in warned if w.category is UserWarning]
        assert "`LocalSGD`: the model was made without a strategy" in text
        assert "training is plain" in text
    assert found == expected
    assert "sync_bytes" not in found["history"]
