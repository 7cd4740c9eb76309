"""Reports as HTML: one page in one file, which loads nothing from elsewhere."""

import math

from tfdist.pages import html, tables

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
    figures = "".join(html.figure(_ALT[name], png, dark[name]) for name, png in light.items())
    body = [
        html.header(report.name, _facts(report)),
        html.notes(report.notes),
        _cards(report),
        html.section("Metrics", _metrics(report)),
        html.section("Curves", f'<div class="figures">{figures}</div>'),
        html.section("Classes", html.table(*report.class_table())),
    ]
    if report.task != "multilabel" and len(report.class_names) <= 20:
        body.append(html.section("Confusion matrix", html.table(*report.confusion_table())))
    for column in report.slices:
        body.append(html.section(f"By {column}", html.table(*report.slice_table(column))))
    return html.page(report.name, body, _closing(report))


def report_fragment(report):
    """The tables of an `EvaluationReport` for a notebook, str."""
    parts = [
        f"<p><strong>{html.text(report.title)}</strong></p>",
        html.table(*report.metrics_table()),
    ]
    parts.append(html.table(*report.class_table()))
    parts += [html.table(*report.slice_table(column)) for column in report.slices]
    parts += [f"<p>Note: {html.text(note)}</p>" for note in report.notes]
    return "".join(parts)


def comparison_page(comparison):
    """The whole page of a `Comparison`, str."""
    first, second = comparison.first, comparison.second
    facts = [first.task, f"{first.n:,} examples"]
    found = comparison.mcnemar
    counts = html.table(
        ["", "second right", "second wrong"],
        [
            ["first right", f"{found.both:,}", f"{found.only_first:,}"],
            ["first wrong", f"{found.only_second:,}", f"{found.neither:,}"],
        ],
    )
    header, rows = comparison.metrics_table()
    header[1:3] = [f"first: {first.name}", f"second: {second.name}"]
    body = [
        html.header(f"{first.name} against {second.name}", facts),
        html.notes(comparison.notes),
        html.section(
            "Differences: the second's metric minus the first's", html.table(header, rows)
        ),
        html.section(
            "Right and wrong", counts + f"<p>{html.text(comparison.mcnemar_sentence)}</p>"
        ),
    ]
    return html.page(f"{first.name} against {second.name}", body, _closing(comparison))


def comparison_fragment(comparison):
    """The table of a `Comparison` for a notebook, str."""
    return (
        f"<p><strong>{html.text(comparison.title)}</strong></p>"
        f"{html.table(*comparison.metrics_table())}<p>{html.text(comparison.mcnemar_sentence)}</p>"
    )


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


def _cards(report):
    cards = []
    for name in report.headlines:
        estimate = report.metrics[name]
        interval = tables.span(estimate.low, estimate.high) or "&nbsp;"
        cards.append((name, tables.number(estimate.value), interval))
    return html.cards(cards)


def _metrics(report):
    """The table of metrics, with a bar of each interval on a scale from 0 to 1."""
    header, rows = report.metrics_table()
    head = "".join(f'<th scope="col">{html.text(cell)}</th>' for cell in header)
    body = []
    for row in rows:
        cells = "".join(f"<td>{html.text(cell)}</td>" for cell in row[1:])
        bar = _bar(report.metrics[row[0]])
        hint = "<small>lower is better</small>" if row[0] in _LOSSES else ""
        body.append(
            f'<tr><th scope="row">{html.text(row[0])}{hint}</th>{cells}'
            f'<td class="bar">{bar}</td></tr>'
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
