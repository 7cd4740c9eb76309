"""The real Fashion-MNIST: 60,000 training and 10,000 test images of clothes, of ten kinds.

Looks for a local copy (`$TFDIST_DATA/fashion_mnist`, by default
`~/.cache/tfdist/fashion_mnist`), then asks Keras, then fetches the Debian package
`dataset-fashion-mnist` and keeps it as the local copy.
"""

import socket

import keras
import local_copy
from mnist_data import read_idx

PACKAGE = "dataset-fashion-mnist"
FILES = {
    "x_train": "train-images-idx3-ubyte.gz",
    "y_train": "train-labels-idx1-ubyte.gz",
    "x_test": "t10k-images-idx3-ubyte.gz",
    "y_test": "t10k-labels-idx1-ubyte.gz",
}


def load():
    """Returns `(x_train, y_train), (x_test, y_test)`.

    Images are uint8 of shape `(examples, 28, 28)`, labels uint8 of shape `(examples,)`.

    Raises:
        RuntimeError: none of the three sources has it; says what each of them said.
    """
    advice = f"Put {', '.join(FILES.values())} into {{directory}}"
    return local_copy.find("fashion_mnist", (_local, _keras, _debian), advice)


def _local(directory):
    arrays = {name: read_idx(directory / file) for name, file in FILES.items()}
    return (arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])


def _keras(directory):
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)
    try:
        return keras.datasets.fashion_mnist.load_data()
    finally:
        socket.setdefaulttimeout(timeout)


def _debian(directory):
    fetched = f"apt-get download {PACKAGE}"  # without a list of packages get one first
    fetched = f"({fetched} || (apt-get update && {fetched}))"
    unpacked = f"dpkg-deb --fsys-tarfile {PACKAGE}*.deb > data.tar && rm {PACKAGE}*.deb"
    download = ["sh", "-c", f"{fetched} && {unpacked}"]
    local_copy.keep(directory, download, list(FILES.values()))
    return _local(directory)
