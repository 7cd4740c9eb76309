"""Replaces a name of Keras or TensorFlow, and knows all that are replaced.

A leaf: what a patch replaces is said here by the patch, which imports this module.
"""

from typing import Any, NamedTuple


class Patch(NamedTuple):
    """A name of Keras or TensorFlow that tfdist replaces; `docs/patches.py` prints them.

    Attributes:
        module: str, the module of `tfdist.compat` that replaces it and says why.
        owner: the upstream module or class that has the name.
        name: str.
        lasts: str, how long it is replaced, and on what, if not permanently.
        when: str, when the replacement does something else than the original.
        does: str, what it does then.
    """

    module: str
    owner: Any
    name: str
    lasts: str | None
    when: str
    does: str


# Those of `replace` once `install` has run, those of `note` once imported.
PATCHES: list[Patch] = []


def note(module, owner, lasts, **names):
    """Notes what `module` replaces temporarily, or on some objects of a class, `owner`.

    Args:
        module, owner, lasts: see `Patch`.
        **names: a pair of strings for each name, `when` and `does`.
    """
    PATCHES.extend(Patch(module, owner, name, lasts, *said) for name, said in names.items())


def replace(owner, name, make, when, does):
    """Replaces `owner.name` by `make(original)`, and says so if it is gone.

    Args:
        owner: an upstream module or class.
        name: str; a function, a method or a property.
        make: function of the original, or of a property's getter, that returns another.
        when, does: see `Patch`.
    """
    original = getattr(owner, name, None)
    if original is None:
        import keras
        import tensorflow as tf

        raise ImportError(
            f"tfdist needs `{owner.__module__ if hasattr(owner, '__module__') else owner.__name__}"
            f".{getattr(owner, '__name__', '')}.{name}`, which Keras {keras.__version__} with "
            f"TensorFlow {tf.__version__} does not have. Install the versions that this release "
            "of tfdist was tested with (see setup.cfg), or a newer tfdist."
        )
    function = original.fget if isinstance(original, property) else original
    replacement = make(function)
    replacement.__name__ = name
    replacement.__doc__ = function.__doc__
    replacement.__wrapped__ = function
    if isinstance(original, property):
        replacement = property(replacement, doc=original.__doc__)
    setattr(owner, name, replacement)
    PATCHES.append(Patch(getattr(make, "func", make).__module__, owner, name, None, when, does))
