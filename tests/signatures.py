"""What a function takes, whatever its type hints say of it."""

import inspect


def arguments_of(function):
    """The names, kinds and defaults of a function's parameters."""
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in found]
