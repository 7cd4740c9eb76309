"""The files of a checkpoint: written whole or not at all, checked, and removed when old.

    directory/step-00000100/worker-0.npz          after step 100
    directory/step-00000120-epoch/worker-0.npz    after step 120, the last of its epoch
    directory/step-00000600-end/worker-0.npz      after `fit`

Each worker writes one file, on whatever disk it has, and looks at no other
worker's. A file is written under a temporary name, brought to the disk (fsync)
and renamed, so a name that ends in `.npz` stands for a file that was once whole.
It is a NumPy archive without pickles: `header` is JSON, all else are arrays. Zip
keeps a CRC-32 of each member, and reading all of them finds what a disk or a copy
has broken since.
"""

import contextlib
import json
import os
import pathlib
import re

import numpy as np

FORMAT = 1
PHASES = ("step", "epoch", "end")  # in the order in which they come after the same step
_NAME = re.compile(r"step-(\d{8,})(?:-(epoch|end))?")


class BrokenFile(Exception):
    """A file that is not what was once written; the message says how that shows."""


def name_of(step, phase):
    """The name of a checkpoint.

    Args:
        step: int, training steps done.
        phase: one of `PHASES`.

    Example:

    >>> name_of(120, "epoch")
    'step-00000120-epoch'
    """
    return f"step-{step:08d}" + ("" if phase == "step" else f"-{phase}")


def age_of(name):
    """`(step, phase)` as a pair of ints that orders checkpoints; None for other names."""
    found = _NAME.fullmatch(name)
    return found and (int(found[1]), PHASES.index(found[2] or "step"))


class WorkerFiles:
    """One worker's checkpoints in a directory.

    Args:
        directory: path; made when the first checkpoint is written.
        worker: int, this worker's index.
    """

    def __init__(self, directory, worker):
        self.directory = pathlib.Path(directory)
        self.worker = worker

    def path(self, name):
        """Where the checkpoint `name` has this worker's file."""
        return self.directory / name / f"worker-{self.worker}.npz"

    def names(self):
        """The checkpoints that have a file of this worker, the oldest first."""
        try:
            entries = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = [name for name in entries if age_of(name) and self.path(name).is_file()]
        return sorted(found, key=age_of)

    def write(self, name, header, arrays):
        """Writes a checkpoint whole, or raises OSError and leaves nothing.

        Args:
            name: str, from `name_of`.
            header: dict of JSON values.
            arrays: dict of NumPy arrays by name.
        """
        path = self.path(name)
        temporary = path.with_suffix(".partial")
        text = json.dumps({"format": FORMAT, **header})
        header = np.frombuffer(text.encode(), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                np.savez(file, allow_pickle=False, header=header, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            for directory in (path.parent, self.directory):
                _bring_to_disk(directory)
        except BaseException:
            self._remove_files(temporary)
            raise

    def read(self, name):
        """Reads and checks a checkpoint.

        Returns:
            `(header, arrays)`, as they were written.

        Raises:
            BrokenFile: it is not whole.
        """
        try:
            # NumPy would leave the file of a broken archive open.
            with (
                open(self.path(name), "rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                arrays = {key: archive[key] for key in archive.files}
            header = json.loads(arrays.pop("header").tobytes())
        except Exception as error:  # a broken archive ends in errors of many types
            raise BrokenFile(f"{self.path(name)}: {error}") from error
        return header, arrays

    def remove(self, name):
        """Removes this worker's file of a checkpoint, if it is there."""
        self._remove_files(self.path(name), self.path(name).with_suffix(".partial"))

    def keep_newest(self, count):
        """Removes all but the newest `count` checkpoints."""
        for name in self.names()[:-count]:
            self.remove(name)

    def remove_newer(self, name=None):
        """Removes what is newer than the checkpoint `name` (None: all), half-written files too.

        They are not on all workers, and the training that goes on will write them again.
        """
        with contextlib.suppress(FileNotFoundError):
            for other in os.listdir(self.directory):
                if age_of(other):
                    newer = name is None or age_of(other) > age_of(name)
                    self._remove_files(
                        *([self.path(other)] if newer else []),
                        self.path(other).with_suffix(".partial"),
                    )

    def _remove_files(self, *paths):
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        with contextlib.suppress(OSError):  # other workers' files may be in it
            paths[0].parent.rmdir()


def _bring_to_disk(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
