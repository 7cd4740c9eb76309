"""Python values as JSON and arrays, so that they come back with every bit.

Floats keep their value (JSON writes the shortest text that reads back as the
same), tuples stay tuples, keys of dictionaries keep their type, arrays keep their
dtype. Anything else is refused: pickles would run code when they are read.
"""

import numpy as np
import tensorflow as tf


def encode(value, arrays):
    """Turns `value` into what `json.dumps` takes.

    Args:
        value: None, bool, int, float, str, a NumPy array or number, a tensor, or
            lists, tuples and dictionaries of them.
        arrays: dict; arrays inside of `value` are added to it under new names.

    Returns:
        What `decode` takes, with the same `arrays`.

    Raises:
        TypeError: another type.

    Example:

    >>> arrays = {}
    >>> text = encode({"best": 0.1, "seen": (1, np.float32(2))}, arrays)
    >>> decode(text, arrays)
    {'best': 0.1, 'seen': (1, np.float32(2.0))}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        return {"list" if isinstance(value, list) else "tuple": [encode(v, arrays) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, (tf.Tensor, tf.Variable)):
        value = value.numpy()
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        name = f"value-{len(arrays)}"
        arrays[name] = np.asarray(value)
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return {kind: name, "dtype": value.dtype.name}
    raise TypeError(
        f"A checkpoint cannot hold {value!r} of type {type(value).__name__}. Expected None, bool, "
        "int, float, str, arrays, and lists, tuples and dictionaries of them."
    )


def decode(value, arrays):
    """What `encode` was given."""
    if not isinstance(value, dict):
        return value
    if "list" in value:
        return [decode(v, arrays) for v in value["list"]]
    if "tuple" in value:
        return tuple(decode(v, arrays) for v in value["tuple"])
    if "dict" in value:
        return {decode(k, arrays): decode(v, arrays) for k, v in value["dict"]}
    array = with_dtype(arrays[value.get("array") or value["number"]], value["dtype"])
    return array if "array" in value else array[()]


def with_dtype(array, name):
    """`array` as read from a file; NumPy's format forgets the dtypes that are not its own."""
    return array.view(tf.as_dtype(name).as_numpy_dtype) if array.dtype.kind == "V" else array
