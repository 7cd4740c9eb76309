"""Which checkpoint the workers resume from: the newest that all of them have whole.

No shared disk is assumed: each worker looks at its own files, and they tell each
other what they have. A checkpoint that a worker was killed in front of is on some
workers only, and the one before it is used.
"""

import warnings
from typing import NamedTuple

from tfdist.checkpointing.files import BrokenFile, age_of, name_of


class Choice(NamedTuple):
    """What the workers have agreed on.

    Attributes:
        training: str, the name of the training that goes on or begins.
        name: str, the checkpoint; None where the training begins.
        header: dict, of this worker's file; None where the training begins.
        arrays: dict of NumPy arrays, of this worker's file.
    """

    training: str
    name: str | None = None
    header: dict | None = None
    arrays: dict | None = None


def choose(files, facts, exchange, new_training, epochs):
    """Agrees with the other workers on a checkpoint; changes no file.

    Args:
        files: this worker's `WorkerFiles`.
        facts: dict, what a checkpoint's header must hold to be this training's
            (versions, the number of workers and replicas).
        exchange: function of a sentence and a dict that returns all workers' dicts.
        new_training: str, a name for the training if it is a new one.
        epochs: int, how many epochs this `fit` is to end with.

    Returns:
        A `Choice`.

    Raises:
        ValueError: the checkpoints are of another version or number of workers.
        RuntimeError: there are checkpoints, but none that is complete on all workers.
    """
    whole, broken = _look(files)
    mine = {
        "whole": {name: header.get("training") for name, header in whole.items()},
        "goes on": {name: _goes_on(header, epochs) for name, header in whole.items()},
        "broken": broken,
        "problem": _problem(files, whole, facts),
        "new training": new_training,
    }
    everyone = exchange("comparing checkpoints", mine)
    problem = next((one["problem"] for one in everyone if one["problem"]), None)
    if problem:
        raise ValueError(problem)
    for message in broken:
        warnings.warn(f"A broken checkpoint is not used: {message}", stacklevel=2)
    common = [
        name
        for name, training in everyone[0]["whole"].items()
        if all(one["whole"].get(name) == training for one in everyone)
    ]
    if not common:
        _check_that_nothing_is_lost(everyone, files)
        return Choice(everyone[0]["new training"])
    name = max(common, key=age_of)
    step, _ = age_of(name)
    if everyone[0]["goes on"][name] and name_of(step, "epoch") in common:
        # What `fit` does at its end (restoring the best weights, averaged weights) is
        # not done yet in the middle of a longer training.
        name = name_of(step, "epoch")
    return Choice(everyone[0]["whole"][name], name, *files.read(name))


def _look(files):
    whole, broken = {}, []
    for name in files.names():
        try:
            whole[name], _ = files.read(name)
        except BrokenFile as error:
            broken.append(str(error))
    return whole, broken


def _goes_on(header, epochs):
    return header.get("phase") == "end" and not header.get("stopped") and header["epoch"] < epochs


def _problem(files, whole, facts):
    for header in reversed(list(whole.values())):
        for name, value in facts.items():
            if header.get(name) != value:
                return (
                    f"The checkpoints in {str(files.directory)!r} were written with {name} "
                    f"{header.get(name)}; this training has {name} {value}. Use the same, or "
                    "another directory."
                )
    return None


def _check_that_nothing_is_lost(everyone, files):
    # The first checkpoint may have been cut short on some workers; from the second on
    # each worker has one that is whole, until disks or people have taken it away.
    most = max(len(one["whole"]) for one in everyone)
    lost = [worker for worker, one in enumerate(everyone) if not one["whole"]]
    if most < 2 and not any(one["broken"] for one in everyone):
        return
    details = "; ".join(message for one in everyone for message in one["broken"])
    raise RuntimeError(
        f"There are checkpoints in {str(files.directory)!r}, but none that is complete on all "
        "workers"
        + (f": worker {', '.join(map(str, lost))} has none" if lost else "")
        + (f" ({details})" if details else "")
        + ". Put the missing files back, or remove the directory of every worker to start from the "
        "beginning."
    )
