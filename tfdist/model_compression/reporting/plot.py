"""The plot of a `CompressionReport`."""

from __future__ import annotations

from typing import Any

from tfdist.pages.figures import figure, short, themed

_MOST_LAYERS = 20
_SHOWN = {
    "parameters": "parameters",
    "nonzeros": "non-zeros",
    "macs": "MACs",
    "gzip_bytes": "gzip bytes",
}


def draw(report: Any, theme: str = "light", form: str = "png") -> bytes:
    """Draws what is left of the whole, and the largest layers before and after.

    Args:
        report: the `CompressionReport`.
        theme: "light" or "dark".
        form: "png" or "svg".

    Returns:
        The bytes of the file.

    Raises:
        ImportError: matplotlib is missing.
    """
    count = "macs" if report.before.total("macs") else "parameters"
    rows = [
        (name, [(getattr(one, count) or 0) if one else 0 for one in pair])
        for name, *pair in report.pairs()
    ]
    largest = sorted(rows, key=lambda row: -max(row[1]))[:_MOST_LAYERS]
    rows = [row for row in rows if row in largest and any(row[1])]
    height = 1.4 + 0.3 * max(len(rows), 4)
    with themed(theme) as colours, figure(9.2 if report.after else 5.6, height, form) as (to, file):
        if report.after is None:
            _layers(to.add_subplot(), rows, count, ["model"], colours)
        else:
            left, right = to.subplots(1, 2, width_ratios=[2, 3])
            _whole(left, report, colours)
            _layers(right, rows, count, ["before", "after"], colours)
    return file.getvalue()


def _whole(axes, report, colours):
    parts = {}
    for count, words in _SHOWN.items():
        before, after = report.before.total(count), report.after.total(count)
        if before and after is not None:
            parts[words] = 100 * after / before
    bars = axes.barh(list(parts), list(parts.values()), color=colours["colours"][0], height=0.6)
    axes.bar_label(bars, [f"{part:.1f}%" for part in parts.values()], padding=3)
    axes.axvline(100, color=colours["faint"], linestyle=":", linewidth=1.2)
    axes.set_xlim(0, 1.25 * max([100, *parts.values()]))
    axes.set_title("What is left", loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("% of before")
    axes.invert_yaxis()


def _layers(axes, rows, count, labels, colours):
    from matplotlib.ticker import EngFormatter

    height = 0.8 / len(labels)
    for place, label in enumerate(labels):
        at = [row + (place + 0.5) * height - 0.4 for row in range(len(rows))]
        values = [row[1][place] for row in rows]
        colour = colours["colours"][0] if label != "before" else colours["faint"]
        axes.barh(at, values, height=0.9 * height, label=label, color=colour)
    axes.set_yticks(range(len(rows)), [short(row[0][-24:], 24) for row in rows])
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(f"{_SHOWN[count]} by layer", loc="left", fontsize=11, fontweight="bold")
    axes.grid(axis="x", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    if len(labels) > 1:
        axes.legend(loc="lower right", fontsize=8.5)
