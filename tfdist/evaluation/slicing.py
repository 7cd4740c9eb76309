"""Which examples belong to which slice."""

import numpy as np

# A column of more values than this is a measurement, not a category.
MOST_VALUES = 50


def named_columns(slices):
    """The names of the input columns that `slices` speaks of, a list without repeats.

    Raises:
        ValueError: `slices` is no dict.
    """
    if slices is not None and not isinstance(slices, dict):
        raise ValueError(
            f"Received slices of type {type(slices).__name__}; expected a dict of a name to an "
            "array with a value for each example, or to the name of an input column."
        )
    return sorted({value for value in (slices or {}).values() if isinstance(value, str)})


def column_of(x, name):
    """The column `name` of a chunk's inputs, an array (examples,).

    Raises:
        ValueError: there is none.
    """
    if not isinstance(x, dict) or name not in x:
        got = (
            f"columns {sorted(x)}" if isinstance(x, dict) else f"inputs of type {type(x).__name__}"
        )
        raise ValueError(
            f"slices asks for the input column {name!r}; received {got}. Pass an array with a "
            "value for each example instead."
        )
    return x[name]


def groups(slices, columns, kept):
    """Finds the examples of each value of each column.

    Args:
        slices: what the user gave, or None.
        columns: dict of the named input columns, gathered.
        kept: bool (examples,), those with a weight.

    Returns:
        A dict of a column's name to a dict of its values, as str and in order, to bool arrays
        over the examples kept.

    Raises:
        ValueError: a column of another length, or of too many values.
    """
    found = {}
    for name, values in (slices or {}).items():
        values = np.asarray(columns[values] if isinstance(values, str) else values)
        if values.shape == (len(kept), 1):
            values = values[:, 0]
        if values.shape != kept.shape:
            raise ValueError(
                f"slices[{name!r}] has the shape {values.shape}; expected ({len(kept)},), a value "
                "for each example."
            )
        values = values[kept]
        if values.dtype.kind in "OS":
            values = np.array([_text(value) for value in values])
        different, which = np.unique(values, return_inverse=True)
        if len(different) > MOST_VALUES:
            raise ValueError(
                f"slices[{name!r}] has {len(different)} different values; expected at most "
                f"{MOST_VALUES}. Put numbers into ranges first: `np.digitize(values, edges)`."
            )
        found[str(name)] = {_text(value): which == i for i, value in enumerate(different)}
    return found


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
