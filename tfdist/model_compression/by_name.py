"""Criteria, schedules, allocations and structures by object, by name or by configuration."""

import keras


def get(what, given, names):
    """An object of one of `names`, as Keras takes optimizers.

    Args:
        what: str, the argument's name, for the error.
        given: an object; a name; or a dict of `keras.saving.serialize_keras_object`.
        names: dict of classes by name.

    Raises:
        ValueError: there is none of this name.
        TypeError: it is something else.
    """
    if isinstance(given, str):
        if given not in names:
            known = ", ".join(map(repr, names))
            raise ValueError(f"{what}={given!r}: expected one of {known}, or an object.")
        return names[given]()
    if isinstance(given, dict):
        given = keras.saving.deserialize_keras_object(given)
    if not isinstance(given, tuple(names.values())):
        classes = ", ".join(one.__name__ for one in names.values())
        raise TypeError(f"{what}={given!r}: expected a name, or an object of {classes}.")
    return given
