"""A `CompressionReport` as HTML: a page, and what a notebook shows."""

from __future__ import annotations

from typing import Any

from tfdist.model_compression.reporting.plot import draw
from tfdist.pages import html

_FIRST = ("parameters", "MACs", "gzip bytes", "accuracy", "latency, ms")


def report_page(report: Any) -> str:
    """The whole page of a `CompressionReport`.

    Raises:
        ImportError: matplotlib is missing.
    """
    figure = html.figure("What is left, and the layers", *(draw(report, t) for t in _THEMES))
    body = [
        html.header(report.title, [f"{len(report.before.layers)} layers with weights or MACs"]),
        html.notes(report.notes),
        _cards(report),
        html.section("In all", html.table(*report.summary_table())),
        html.section("Plot", figure),
        html.section("Layers", html.table(*report.layer_table(arrow=" → "))),
    ]
    return html.page(report.title, body, f"{' '.join(report.how)} Reported by tfdist.")


def report_fragment(report: Any) -> str:
    """Its tables, for a notebook."""
    parts = [
        f"<p><strong>{html.text(report.title)}</strong></p>",
        html.table(*report.summary_table()),
        html.table(*report.layer_table(arrow=" → ")),
        *(f"<p>{html.text(note)}</p>" for note in [*report.notes, *report.how]),
    ]
    return "".join(parts)


_THEMES = ("light", "dark")


def _cards(report):
    cards = []
    for name, *values in report.summary_table()[1]:
        if name not in _FIRST:
            continue
        shown = [value.split(" ")[0] for value in values]
        beneath = f"before: {shown[0]} ({shown[2]})" if report.after else "&nbsp;"
        cards.append((name, shown[1] if report.after else shown[0], beneath))
    return html.cards(cards)
