"""What data holds, in few characters: workers compare theirs before they train on it."""

import os
import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdist.compat import datasets
from tfdist.data.split import is_dealt_out

_ROWS = 64
_ROW_BYTES = 2**20


def fingerprints(arguments: Mapping[str, Any]) -> list[str]:
    """A line for each array, equal where shapes, dtypes and a sample of the rows are.

    A `tf.data.Dataset` has lines of what it was made with: arrays, names of files (but not
    of their directories), shards, seeds, sizes of batches. It is not read, and not looked
    at where its auto-shard policy lets each worker read data of its own.

    Args:
        arguments: dict from names to NumPy arrays, tensors, pandas' frames, datasets,
            structures of them, or None. What is something else (a generator, a
            `PyDataset`) has no line.

    Returns:
        A list of str.

    Example:

    >>> fingerprints({"x": np.zeros((4, 2)), "y": None})
    ['x (4, 2) float64 with contents 758d6336']
    >>> fingerprints({"x": tf.data.Dataset.range(6).batch(2)})[0]
    'x BatchDataset.batch_size 2'
    """
    lines = []
    for name, data in arguments.items():
        for part in keras.tree.flatten(data):
            if isinstance(part, tf.data.Dataset):
                made_with = datasets.arguments(part) if is_dealt_out(part) else []
                lines += [_line(f"{name} {what}", tensor) for what, tensor in made_with]
            elif _is_array(part):
                lines.append(_line(name, part))
    return lines


def _is_array(value):
    known = isinstance(value, (np.ndarray, tf.Tensor)) or hasattr(value, "iloc")
    return known and len(value.shape) > 0


def _line(name, array):
    rows = _sample(array)
    if rows.ndim == 0:
        return f"{name} {rows}"
    contents = f"{zlib.crc32(_bytes(rows)):08x}"
    return f"{name} {tuple(array.shape)} {rows.dtype} with contents {contents}"


def _sample(array):
    """Rows from the first to the last, few enough to cost no time."""
    if not len(array.shape):
        return np.asarray(array)
    last = int(array.shape[0]) - 1
    rows = np.unique(np.linspace(0, last, _ROWS).astype(int)) if last >= 0 else np.empty(0, int)
    if isinstance(array, tf.Tensor):
        return tf.gather(array, rows).numpy()
    return array[rows] if isinstance(array, np.ndarray) else array.iloc[rows].to_numpy()


def _bytes(rows):
    if rows.dtype.kind in "OUS":
        # The same file may be in different directories on different machines.
        texts = (one if isinstance(one, (bytes, str)) else str(one) for one in rows.ravel())
        return "\0".join(str(os.path.basename(text)) for text in texts).encode()
    return b"".join(np.ascontiguousarray(row).tobytes()[:_ROW_BYTES] for row in rows)
