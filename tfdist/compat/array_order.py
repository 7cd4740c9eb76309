"""Arrays in another order in each epoch, where the user has asked for no seed.

Needs: `ArrayDataAdapter`, and that it shuffles by `tf.random.shuffle` (public,
replaced while an adapter makes its dataset).
Why: several workers must read in one order, so tfdist sets a seed where the user
has set none; but with a seed Keras' operation begins anew in each epoch, and all
epochs have the same order. Who sets a seed gets what Keras does with it.
"""

import contextlib
import hashlib

import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

from tfdist.compat import coordination, py_dataset
from tfdist.compat.replacing import note

note(
    __name__,
    tf.random,
    "while `fit` makes the data adapter of arrays",
    shuffle=(
        "tfdist has chosen TensorFlow's seed: several workers, and no seed of the user's",
        "shuffles in another order in each epoch, the same on all workers",
    ),
)


@contextlib.contextmanager
def shuffling():
    """Datasets that adapters make inside are shuffled in another order in each epoch.

    Yields:
        A function of an adapter that was made inside, to be called with it.
    """
    if not coordination.seed_was_chosen():
        yield lambda adapter: None
        return
    order = Order(py_dataset.seed_of_call())
    original, tf.random.shuffle = tf.random.shuffle, order.shuffle
    try:
        yield order.belongs_to
    finally:
        tf.random.shuffle = original


class Order:
    """A permutation for each pass over the data.

    Args:
        seed: str, the same on all workers.
    """

    def __init__(self, seed):
        self._seed = seed
        self._pass = 0

    def belongs_to(self, adapter):
        """Lets `adapter` tell when a pass begins; see `compat.py_dataset`."""
        if isinstance(adapter, ArrayDataAdapter):
            adapter._tfdist_order = self

    def begin_pass(self):
        """What is shuffled from now on belongs to the next pass."""
        self._pass += 1

    def shuffle(self, value, seed=None, name=None):
        """In place of `tf.random.shuffle`."""
        shuffled = tf.numpy_function(self._permute, [value], value.dtype, name=name)
        shuffled.set_shape(value.shape)
        return shuffled

    def _permute(self, value):
        digest = hashlib.sha256(f"{self._seed} {self._pass}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest)).permutation(value)
