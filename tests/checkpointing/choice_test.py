"""Workers that are directories of this process; what each says is asked of each in turn."""

import pytest

from tfdist.checkpointing.choice import choose
from tfdist.checkpointing.files import WorkerFiles, name_of

FACTS = {"workers": 2}


def workers(tmp_path, *steps, training="first", **header):
    """Two workers; `steps` is for each the list of steps that it has a checkpoint of."""
    all_files = [WorkerFiles(tmp_path / str(worker), worker) for worker in range(2)]
    for files, own in zip(all_files, steps):
        for step in own:
            write(files, name_of(step, "step"), training, **header)
    return all_files


def write(files, name, training="first", phase="step", stopped=False, epoch=1, workers=2):
    header = {"training": training, "phase": phase, "stopped": stopped, "epoch": epoch}
    files.write(name, {**header, "workers": workers}, {})


def choose_all(all_files, epochs=3):
    """What each worker chooses; first all are asked what they have, then all are told."""
    said = []

    class Asked(Exception):
        pass

    def ask(what, facts):
        said.append(facts)
        raise Asked

    for files in all_files:
        with pytest.raises(Asked):
            choose(files, FACTS, ask, f"new-{files.worker}", epochs)
    return [
        choose(files, FACTS, lambda what, facts: said, f"new-{files.worker}", epochs)
        for files in all_files
    ]


def test_the_newest_that_all_have(tmp_path):
    choices = choose_all(workers(tmp_path, [3, 6, 9], [3, 6]))
    assert [choice.name for choice in choices] == ["step-00000006"] * 2
    assert [choice.training for choice in choices] == ["first"] * 2


def test_nothing_yet_begins_a_training_that_has_the_chiefs_name(tmp_path):
    choices = choose_all(workers(tmp_path, [], []))
    assert [(c.name, c.training) for c in choices] == [(None, "new-0")] * 2


def test_the_first_checkpoint_that_one_worker_did_not_come_to_write(tmp_path):
    choices = choose_all(workers(tmp_path, [3], []))
    assert [choice.name for choice in choices] == [None, None]


def test_a_checkpoint_of_the_same_step_of_another_training_is_not_the_same(tmp_path):
    first, second = workers(tmp_path, [3, 6], [3])
    write(second, "step-00000006", training="second")
    assert choose_all([first, second])[0].name == "step-00000003"


def test_a_worker_whose_files_are_gone_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="is complete on all workers: worker 1 has none"):
        choose_all(workers(tmp_path, [3, 6], []))


def test_another_number_of_workers_is_told_to_all(tmp_path):
    everyone = workers(tmp_path, [3], [], workers=1)
    with pytest.raises(ValueError, match="written with workers 1; this training has workers 2"):
        choose_all(everyone)


@pytest.mark.parametrize(
    "epochs, stopped, expected",
    [(2, False, "end"), (3, False, "epoch"), (3, True, "end")],
)
def test_more_epochs_go_on_from_before_the_end(tmp_path, epochs, stopped, expected):
    everyone = workers(tmp_path, [], [])
    for files in everyone:
        for phase in ("epoch", "end"):
            write(files, name_of(8, phase), phase=phase, stopped=stopped, epoch=2)
    assert choose_all(everyone, epochs)[0].name == name_of(8, expected)
