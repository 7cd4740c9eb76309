"""The plots of a report, as PNG."""

import pathlib

import numpy as np

from tfdist.evaluation.curves import thinned
from tfdist.pages.figures import figure, short, themed

_LINES = ["-", "--", "-.", (0, (1, 1))]
_MOST_CURVES = 6
_MOST_NUMBERS = 12


def save(report, directory):
    """Writes every plot into `directory`, which is made if it is not there.

    Returns:
        A list of the files' paths.

    Raises:
        ImportError: matplotlib is missing.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, png in draw(report).items():
        paths.append(directory / f"{name}.png")
        paths[-1].write_bytes(png)
    return paths


def draw(report, theme="light"):
    """Draws the plots.

    Args:
        report: an `EvaluationReport`.
        theme: "light" or "dark".

    Returns:
        A dict of "roc", "pr", "calibration" and "confusion_matrix" to the bytes of a PNG;
        without the curves that are undefined.

    Raises:
        ImportError: matplotlib is missing.
    """
    drawn = {}
    with themed(theme) as colours:
        if report.curves["roc"]:
            drawn["roc"] = _roc(report, colours)
        if report.curves["pr"]:
            drawn["pr"] = _pr(report, colours)
        drawn["calibration"] = _calibration(report, colours)
        drawn["confusion_matrix"] = _confusion(report, colours)
    return drawn


def _unit_square(axes, title, x, y):
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_aspect("equal", adjustable="box")
    axes.grid(linewidth=0.8)
    axes.set_axisbelow(True)


def _shown(report, kind):
    """Names, and the words on them: a few classes, those with the smallest area."""
    area = {"roc": "roc_auc", "pr": "pr_auc"}[kind]
    if report.task == "binary":
        (name,) = report.curves[kind]
        return {name: report.metrics[area].value}
    areas = {name: report.per_class[name][area] for name in report.curves[kind]}
    if len(areas) <= _MOST_CURVES:
        return areas
    return dict(sorted(areas.items(), key=lambda one: one[1])[:_MOST_CURVES])


def _curve_lines(report, kind, axes, x, y, word, colours, **style):
    shown = _shown(report, kind)
    for position, (name, area) in enumerate(shown.items()):
        curve = thinned(report.curves[kind][name], points=1000)
        axes.plot(
            curve[x],
            curve[y],
            color=colours["colours"][position % len(colours["colours"])],
            linestyle=_LINES[position % len(_LINES)],
            linewidth=2,
            label=f"{short(name)}: {word} {area:.4f}",
            **style,
        )
    total = len(report.curves[kind])
    title = f"least area, {len(shown)} of {total}" if total > len(shown) else None
    axes.legend(loc="lower right" if kind == "roc" else "lower left", fontsize=8.5, title=title)


def _roc(report, colours):
    with figure() as (drawn, png):
        axes = drawn.add_subplot()
        _unit_square(axes, "ROC curve", "false positive rate", "true positive rate")
        axes.plot([0, 1], [0, 1], color=colours["faint"], linestyle=":", linewidth=1.2)
        _curve_lines(report, "roc", axes, "fpr", "tpr", "AUC", colours)
    return png.getvalue()


def _pr(report, colours):
    with figure() as (drawn, png):
        axes = drawn.add_subplot()
        _unit_square(axes, "Precision-recall curve", "recall", "precision")
        if report.task == "binary":
            share = np.average(report.labels, weights=report.weights)
            axes.axhline(share, color=colours["faint"], linestyle=":", linewidth=1.2)
        _curve_lines(
            report, "pr", axes, "recall", "precision", "AP", colours, drawstyle="steps-post"
        )
    return png.getvalue()


def _calibration(report, colours):
    with figure() as (drawn, png):
        upper, lower = drawn.subplots(2, 1, height_ratios=[4, 1], sharex=True)
        upper.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="share that is right")
        if report.task != "multiclass":
            upper.set_ylabel("share that is positive")
        upper.set_title("Calibration", loc="left", fontsize=11, fontweight="bold")
        upper.plot([0, 1], [0, 1], color=colours["faint"], linestyle=":", linewidth=1.2)
        found = report.curves["calibration"]
        names = list(found)[:_MOST_CURVES]
        for position, name in enumerate(names):
            colour = colours["colours"][position % len(colours["colours"])]
            line = {"color": colour, "linestyle": _LINES[position % len(_LINES)], "linewidth": 2}
            curve = found[name]
            label = short(name)
            if len(found) == 1:
                label = f"{label}: ECE {report.metrics['ece'].value:.4f}"
            upper.plot(
                curve["confidence"],
                curve["frequency"],
                marker="o",
                markersize=4,
                label=label,
                **line,
            )
            share = curve["weight"] / curve["weight"].sum()
            if len(found) == 1:
                lower.bar(curve["confidence"], share, width=0.05, color=colour)
            else:
                lower.plot(curve["confidence"], share, **line)
        title = None
        if len(found) > 1:
            title = f"mean ECE {report.metrics['ece'].value:.4f}"
        if len(found) > len(names):
            title += f", {len(names)} of {len(found)} labels"
        upper.legend(loc="upper left", fontsize=8.5, title=title)
        lower.set(xlabel="predicted probability", ylabel="share", ylim=(0, None))
        for axes in (upper, lower):
            axes.grid(linewidth=0.8)
            axes.set_axisbelow(True)
    return png.getvalue()


def _confusion(report, colours):
    from matplotlib.colors import LinearSegmentedColormap

    matrix = report.confusion_matrix
    rows, columns = report.class_names, report.class_names
    title, x = "Confusion matrix", "predicted class"
    if report.task == "multilabel":
        # A row for each label: its four outcomes.
        matrix = matrix[:, [0, 0, 1, 1], [0, 1, 0, 1]]
        columns = ["true neg.", "false pos.", "false neg.", "true pos."]
        title, x = "Outcomes of each label", ""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    palette = LinearSegmentedColormap.from_list("shares", colours["map"])
    with figure(4.9) as (drawn, png):
        axes = drawn.add_subplot()
        image = axes.imshow(shares, cmap=palette, vmin=0, vmax=1, aspect="auto")
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.set(xlabel=x, ylabel="true class" if report.task != "multilabel" else "label")
        few = len(rows) <= _MOST_NUMBERS
        steps = max(1, len(rows) // _MOST_NUMBERS)
        axes.set_yticks(range(0, len(rows), steps), [short(name) for name in rows[::steps]])
        across = 1 if report.task == "multilabel" else steps
        words = [short(name) for name in columns[::across]]
        longest = max(map(len, words))
        axes.set_xticks(
            range(0, len(columns), across), words, rotation=45 if longest * len(words) > 40 else 0
        )
        if few:
            small = 9 if len(rows) <= 6 else 7.5
            for (row, column), share in np.ndenumerate(shares):
                value = matrix[row, column]
                text = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
                if len(rows) <= 6:
                    text += f"\n{100 * share:.1f}%"
                colour = _readable_on(palette(share))
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=small)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.tick_params(length=0)
        bar = drawn.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
        bar.set_label("share of the row")
        bar.outline.set_visible(False)
    return png.getvalue()


def _readable_on(colour):
    """Black or white, whichever has the higher contrast on `colour`."""
    linear = [
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in colour[:3]
    ]
    light = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    return "#10131a" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"
