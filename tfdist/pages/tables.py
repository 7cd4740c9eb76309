"""Tables of text, and numbers as JSON takes them."""

import json
import math

import numpy as np


def number(value, digits=4):
    """`value` as text: rounded, "-" for NaN, whole numbers without decimals."""
    if value is None or not math.isfinite(value):
        return "-"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return f"{value:,.{digits}f}"


def p_value(value):
    """A p value as text; the least that it shows is "<0.0001"."""
    return "<0.0001" if value < 0.0001 else number(value)


def amount(value):
    """A sum of weights as text: a count without decimals where it is one."""
    return number(int(value)) if float(value).is_integer() else number(value, 1)


def span(low, high):
    """An interval as text; "" where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{number(low)} to {number(high)}"


def aligned(header, rows):
    """A table of text, its first column to the left and the others to the right.

    Args:
        header: list of str.
        rows: list of lists of str.

    Returns:
        A list of lines, the first of them the header.
    """
    table = [list(header), *map(list, rows)]
    widths = [max(len(row[c]) for row in table) for c in range(len(header))]
    lines = []
    for row in table:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    return lines


def plain(value):
    """`value` of plain Python types; NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value, path=None):
    """`value` as strict JSON, also written to `path` if that is given.

    Returns:
        str.
    """
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    if path is not None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return text
