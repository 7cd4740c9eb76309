"""Reports as HTML: one page in one file, which loads nothing from elsewhere."""

import base64
import html
import math

from tfdist.evaluation import tables
from tfdist.evaluation.style import CSS

_LOSSES = ("brier", "log_loss", "ece")
_ALT = {
    "roc": "ROC curve",
    "pr": "Precision-recall curve",
    "calibration": "Calibration curve",
    "confusion_matrix": "Confusion matrix",
}


def report_page(report):
    """The whole page of an `EvaluationReport`, str.

    Raises:
        ImportError: matplotlib is missing.
    """
    from tfdist.evaluation.plots import draw

    light, dark = draw(report, "light"), draw(report, "dark")
    figures = "".join(_figure(_ALT[name], png, dark[name]) for name, png in light.items())
    body = [
        _header(report.name, _facts(report)),
        "".join(f'<p class="note">{_text(note)}</p>' for note in report.notes),
        _cards(report),
        _section("Metrics", _metrics(report)),
        _section("Curves", f'<div class="figures">{figures}</div>'),
        _section("Classes", _table(*report.class_table())),
    ]
    if report.task != "multilabel" and len(report.class_names) <= 20:
        body.append(_section("Confusion matrix", _table(*report.confusion_table())))
    for column in report.slices:
        body.append(_section(f"By {column}", _table(*report.slice_table(column))))
    return _page(report.name, body, _closing(report))


def report_fragment(report):
    """The tables of an `EvaluationReport` for a notebook, str."""
    parts = [f"<p><strong>{_text(report.title)}</strong></p>", _table(*report.metrics_table())]
    parts.append(_table(*report.class_table()))
    parts += [_table(*report.slice_table(column)) for column in report.slices]
    parts += [f"<p>Note: {_text(note)}</p>" for note in report.notes]
    return "".join(parts)


def comparison_page(comparison):
    """The whole page of a `Comparison`, str."""
    first, second = comparison.first, comparison.second
    facts = [first.task, f"{first.n:,} examples"]
    found = comparison.mcnemar
    counts = _table(
        ["", "second right", "second wrong"],
        [
            ["first right", f"{found.both:,}", f"{found.only_first:,}"],
            ["first wrong", f"{found.only_second:,}", f"{found.neither:,}"],
        ],
    )
    header, rows = comparison.metrics_table()
    header[1:3] = [f"first: {first.name}", f"second: {second.name}"]
    body = [
        _header(f"{first.name} against {second.name}", facts),
        "".join(f'<p class="note">{_text(note)}</p>' for note in comparison.notes),
        _section("Differences: the second's metric minus the first's", _table(header, rows)),
        _section("Right and wrong", counts + f"<p>{_text(comparison.mcnemar_sentence)}</p>"),
    ]
    return _page(f"{first.name} against {second.name}", body, _closing(comparison))


def comparison_fragment(comparison):
    """The table of a `Comparison` for a notebook, str."""
    return (
        f"<p><strong>{_text(comparison.title)}</strong></p>"
        f"{_table(*comparison.metrics_table())}<p>{_text(comparison.mcnemar_sentence)}</p>"
    )


def _text(value):
    return html.escape(str(value), quote=True)


def _uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _figure(words, light, dark):
    return (
        '<figure><picture><source media="(prefers-color-scheme: dark)" '
        f'srcset="{_uri(dark)}"><img src="{_uri(light)}" alt="{words}"></picture></figure>'
    )


def _page(title, body, closing):
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{_text(title)}</title>
<style>
{CSS}</style>
</head>
<body>
<main>
{"".join(body)}
<footer>{_text(closing)}</footer>
</main>
</body>
</html>
"""


def _header(title, facts):
    chips = "".join(f"<li>{_text(fact)}</li>" for fact in facts)
    return f'<header><h1>{_text(title)}</h1><ul class="facts">{chips}</ul></header>'


def _facts(report):
    facts = [report.task, f"{report.n:,} examples", f"{len(report.class_names)} classes"]
    if report.task == "multilabel":
        facts[2] = f"{len(report.class_names)} labels"
    if report.threshold is not None:
        facts.append(f"threshold {report.threshold:.4g}")
    return facts


def _closing(found):
    if not found.bootstrap:
        return "Evaluated by tfdist."
    return (
        f"Evaluated by tfdist. Intervals: {100 * found.confidence:.4g}% percentile bootstrap of "
        f"{found.bootstrap:,} resamples of the examples, seed {found.seed}."
    )


def _section(title, content):
    return f"<section><h2>{_text(title)}</h2>{content}</section>"


def _table(header, rows):
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>'
        + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cards(report):
    cards = []
    for name in report.headlines:
        estimate = report.metrics[name]
        interval = tables.span(estimate.low, estimate.high) or "&nbsp;"
        cards.append(
            f'<div class="card"><div class="name">{_text(name)}</div>'
            f'<div class="value">{tables.number(estimate.value)}</div>'
            f'<div class="interval">{interval}</div></div>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _metrics(report):
    """The table of metrics, with a bar of each interval on a scale from 0 to 1."""
    header, rows = report.metrics_table()
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in header)
    body = []
    for row in rows:
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
        bar = _bar(report.metrics[row[0]])
        hint = "<small>lower is better</small>" if row[0] in _LOSSES else ""
        body.append(
            f'<tr><th scope="row">{_text(row[0])}{hint}</th>{cells}<td class="bar">{bar}</td></tr>'
        )
    return (
        f'<div class="scroll"><table class="metrics"><thead><tr>{head}<th scope="col">'
        '<span class="scale"><span>0</span><span>1</span></span></th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _bar(estimate):
    if not (math.isfinite(estimate.value) and 0 <= estimate.value <= 1):
        return ""
    at = f"left:{100 * estimate.value:.2f}%"
    band = ""
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        low, high = max(0.0, estimate.low), min(1.0, estimate.high)
        band = f'<i class="band" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    return f'<span class="track" aria-hidden="true">{band}<i class="tick" style="{at}"></i></span>'
