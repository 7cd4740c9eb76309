"""The examples, walked once, in chunks that fit into memory.

Inputs, labels and weights of an example come from the same pass over the data, so that a
data set which shuffles on every pass cannot pair an input with the label of another.
"""

import dataclasses

import keras
import numpy as np

CHUNK_BYTES = 64 * 2**20


@dataclasses.dataclass
class Chunk:
    """Some examples: `x` as the model takes it, `y`, and `weight` or None; NumPy arrays."""

    x: object
    y: np.ndarray
    weight: np.ndarray | None

    def __len__(self):
        return len(self.y)


def chunks(data, sample_weight, batch_size, chunk_bytes=CHUNK_BYTES):
    """Walks the data once.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)` of arrays, or of dicts or lists of arrays in
            place of `x`; or an iterable of such batches: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a generator.
        sample_weight: an array with a value for each example, where `data` is of arrays.
        batch_size: int; a chunk of arrays is a whole number of batches.
        chunk_bytes: int, about how large the inputs of a chunk may get.

    Yields:
        `Chunk`s of at least one example.

    Raises:
        ValueError: no examples, no end to them, no labels, or parts of different lengths.
    """
    if isinstance(data, tuple):
        whole = _chunk(data, sample_weight)
        found = _slices(whole, batch_size, chunk_bytes)
    elif sample_weight is not None:
        raise ValueError(
            f"sample_weight was given beside a {type(data).__name__}, whose examples come in an "
            "order of its own. Let it yield `(x, y, sample_weight)`, or pass arrays."
        )
    else:
        found = _together(map(_chunk, _batches(data)), chunk_bytes)
    empty = True
    for chunk in found:
        empty = False
        yield chunk
    if empty:
        raise ValueError(
            "The data are empty: received 0 examples, expected at least one. Check the arrays' "
            "first dimension, or the files and filters of the data set."
        )


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise _endless(data)
        return (data[index] for index in range(data.num_batches))
    cardinality = getattr(data, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise _endless(data)
    if isinstance(data, (np.ndarray, dict, str)) or not hasattr(data, "__iter__"):
        raise ValueError(
            f"Received data of type {type(data).__name__}; expected `(x, y)` or `(x, y, "
            "sample_weight)` of arrays, or a `tf.data.Dataset`, a `keras.utils.PyDataset` or "
            "another iterable of such batches."
        )
    return data


def _endless(data):
    return ValueError(
        f"The {type(data).__name__} has no end: an evaluation needs every example once. Take out "
        "`repeat()`, or add `take(n)`."
    )


def _chunk(batch, sample_weight=None):
    if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3) or batch[1] is None:
        got = f"a {type(batch).__name__}"
        if isinstance(batch, (tuple, list)):
            got += f" of {len(batch)}"
        raise ValueError(
            f"Received {got} in place of `(x, y)` or `(x, y, sample_weight)`: an evaluation needs "
            "the labels. Pass `data=(x, y)`, or let the data set yield both."
        )
    x, y, weight = (*batch, None)[:3]
    if weight is not None and sample_weight is not None:
        raise ValueError(
            "Received weights twice: as the third part of `data` and as `sample_weight`. Pass one."
        )
    weight = sample_weight if weight is None else weight
    if isinstance(x, list) and not _are_arrays(x):
        x = np.asarray(x)  # rows in plain lists, not a list of inputs
    x = keras.tree.map_structure(to_numpy, x)
    if isinstance(y, dict) or (isinstance(y, (tuple, list)) and _are_arrays(y)):
        raise ValueError(
            f"Received labels in a {type(y).__name__} of {len(y)}; expected one array. Evaluate "
            "one output at a time: `keras.Model(model.inputs, model.outputs[0])` with its labels."
        )
    y = to_numpy(y)
    weight = None if weight is None else to_numpy(weight)
    lengths = [np.shape(part)[:1] for part in [*keras.tree.flatten(x), y]]
    if len(set(lengths)) > 1:
        shapes = [np.shape(part) for part in keras.tree.flatten(x)]
        raise ValueError(
            f"Received inputs of shape {_listed(shapes)} and labels of shape {y.shape}; their "
            "first dimensions must be the same number of examples."
        )
    if lengths[0] == ():
        raise ValueError(
            "Received a single example without a batch dimension. Batch the data set: "
            "`dataset.batch(32)`."
        )
    if weight is not None and weight.shape not in (y.shape[:1], (*y.shape[:1], 1)):
        raise ValueError(
            f"Received sample_weight of shape {weight.shape} for {len(y)} examples; expected one "
            f"weight for each example, shape ({len(y)},)."
        )
    return Chunk(x, y, None if weight is None else weight.reshape(-1))


def _are_arrays(values):
    return bool(len(values)) and hasattr(values[0], "shape") and len(values[0].shape) > 0


def to_numpy(value):
    """`value` as a NumPy array.

    Raises:
        TypeError: it is ragged or sparse.
    """
    if type(value).__name__ in ("RaggedTensor", "SparseTensor"):
        raise TypeError(
            f"Received a {type(value).__name__}; expected arrays. Make it dense in the data set: "
            "`dataset.map(lambda x, y: (x.to_tensor(), y))`."
        )
    if isinstance(value, np.ndarray):
        return value
    return value.numpy() if hasattr(value, "numpy") else np.asarray(value)


def _listed(shapes):
    return str(shapes[0]) if len(shapes) == 1 else ", ".join(map(str, shapes))


def _bytes(chunk):
    return sum(part.nbytes for part in keras.tree.flatten(chunk.x))


def _slices(whole, batch_size, chunk_bytes):
    if not len(whole):
        return
    batches = max(1, chunk_bytes * len(whole) // max(1, _bytes(whole)) // batch_size)
    size = batches * batch_size
    for start in range(0, len(whole), size):
        part = slice(start, start + size)
        yield Chunk(
            keras.tree.map_structure(lambda array: array[part], whole.x),  # noqa: B023
            whole.y[part],
            None if whole.weight is None else whole.weight[part],
        )


def _together(batches, chunk_bytes):
    """Joins batches up to the size of a chunk; batches padded to another length start anew."""
    held, size = [], 0
    for batch in batches:
        if not len(batch):
            continue
        if held and (size >= chunk_bytes or _form(batch) != _form(held[0])):
            yield _joined(held)
            held, size = [], 0
        held.append(batch)
        size += _bytes(batch)
    if held:
        yield _joined(held)


def _form(chunk):
    shapes = keras.tree.map_structure(lambda array: (array.dtype, array.shape[1:]), chunk.x)
    return shapes, chunk.y.shape[1:], chunk.weight is None


def _joined(held):
    if len(held) == 1:
        return held[0]
    return Chunk(
        keras.tree.map_structure(lambda *parts: np.concatenate(parts), *[one.x for one in held]),
        np.concatenate([one.y for one in held]),
        None if held[0].weight is None else np.concatenate([one.weight for one in held]),
    )
