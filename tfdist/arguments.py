"""What arguments are checked for, with one form of error."""

from typing import Any, overload


@overload
def integer(name: str, value: Any, least: int | None = None, meaning: str = "") -> int: ...


@overload
def integer(
    name: str, value: Any, least: int | None = None, meaning: str = "", *, or_none: bool
) -> int | None: ...


def integer(
    name: str, value: Any, least: int | None = None, meaning: str = "", or_none: bool = False
) -> int | None:
    """`value` as an int; whole numbers of other types, such as NumPy's, are taken.

    Args:
        name: the argument's, for the error.
        value: what was given.
        least: the smallest that is allowed; None for any.
        meaning: what the number is, for the error; "" where the name says it.
        or_none: whether None is allowed, too.

    Raises:
        ValueError: it is none.
    """
    if value is None and or_none:
        return None
    try:
        whole = not isinstance(value, (bool, str, bytes)) and int(value) == value
    except (TypeError, ValueError, OverflowError):  # None, a list, NaN, infinity
        whole = False
    if not whole or (least is not None and value < least):
        expected = "None or an int" if or_none else "an int"
        expected += "" if least is None else f" of at least {least}"
        expected += f", {meaning}" if meaning else ""
        raise ValueError(f"{name}={value!r}: expected {expected}.")
    return int(value)


def number(name: str, value: Any, least: float) -> float:
    """`value` as a finite float of at least `least`.

    Args:
        name: the argument's, for the error.
        value: what was given.
        least: the smallest that is allowed.

    Raises:
        ValueError: it is none.
    """
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not known or not least <= value < float("inf"):
        raise ValueError(f"{name}={value!r}: expected a number of at least {least}.")
    return float(value)
