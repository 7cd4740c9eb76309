"""What an evaluation found."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import typing

import numpy as np

from tfdist.evaluation.curves import curves_of, thinned
from tfdist.evaluation.predictions import Predictions
from tfdist.pages import tables

CURVES_IN_JSON = 20


class Estimate(typing.NamedTuple):
    """A metric's value, and its bootstrap interval; NaN where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    def to_dict(self) -> dict[str, float]:
        """A dict of "value", "low" and "high"."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclasses.dataclass(eq=False, repr=False)
class EvaluationReport:
    """What `tfdist.evaluate` found: a table, intervals, curves and slices.

    `print(report)` shows the tables; in a notebook it shows itself.

    Example:

    ```python
    report = tfdist.evaluate(model, (x_test, y_test))
    report.metrics["f1"].value, report.metrics["f1"].low
    report.curves["roc"]["1"]["fpr"]
    report.to_html("report.html")
    ```

    Attributes:
        name: str, the model's name.
        predictions: the labels, probabilities and weights of all examples with a weight.
        threshold: float; scores of at least it are positive. None for multiclass.
        metrics: dict of a metric's name to `(value, low, high)`.
        per_class: dict of a class name to a dict of "precision", "recall", "f1", "support"
            (the sum of its weights) and, unless binary, "roc_auc" and "pr_auc".
        confusion_matrix: float64 (classes, classes), rows the true classes, columns the
            predicted ones, sums of weights; multilabel (labels, 2, 2).
        slices: dict of a column's name to a dict of its values to a dict of "n" and
            "metrics".
        confidence: float, of the intervals.
        bootstrap: int, the number of resamples; 0: no intervals.
        seed: int.
        notes: list of str, what a reader should know.
    """

    name: str
    predictions: Predictions
    threshold: float | None
    metrics: dict[str, Estimate]
    per_class: dict[str, dict[str, float]]
    confusion_matrix: np.ndarray
    slices: dict[str, dict[str, dict[str, typing.Any]]]
    confidence: float = 0.95
    bootstrap: int = 0
    seed: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def task(self) -> str:
        """ "binary", "multiclass" or "multilabel"."""
        return self.predictions.task

    @property
    def n(self) -> int:
        """The number of examples with a weight above 0."""
        return len(self.predictions)

    @property
    def class_names(self) -> tuple[str, ...]:
        """A str for each class or label."""
        return self.predictions.class_names

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,); multilabel (n, labels)."""
        return self.predictions.labels

    @property
    def scores(self) -> np.ndarray:
        """float64 probabilities, (n,) for binary and (n, classes) otherwise."""
        return self.predictions.scores

    @property
    def weights(self) -> np.ndarray:
        """float64 (n,)."""
        return self.predictions.weights

    @functools.cached_property
    def curves(self) -> dict[str, dict[str, dict[str, np.ndarray]]]:
        """ROC, precision-recall and calibration curves.

        A dict of "roc", "pr" and "calibration" to a dict of class names to a dict of arrays;
        see `tfdist.evaluation.curves.curves_of`. Binary curves are those of class 1.
        """
        return curves_of(self.predictions)

    # -- as text ------------------------------------------------------------------

    @property
    def title(self) -> str:
        """One line: the model, the task, how many examples."""
        text = f"{self.name}: {self.task}, {self.n:,} examples"
        return text if self.threshold is None else f"{text}, threshold {self.threshold:.6g}"

    def __repr__(self) -> str:
        return f"<EvaluationReport of {self.title}>"

    def __str__(self) -> str:
        lines = [self.title, "", *tables.aligned(*self.metrics_table())]
        if len(self.per_class) > 1:
            lines += ["", *tables.aligned(*self.class_table())]
        if self.task != "multilabel" and len(self.class_names) <= 12:
            lines += ["", *tables.aligned(*self.confusion_table())]
        for column in self.slices:
            lines += ["", *tables.aligned(*self.slice_table(column))]
        return "\n".join([*lines, *[f"\nNote: {note}" for note in self.notes]])

    def metrics_table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table of metrics, of str."""
        header = ["metric", "value"] + [f"{100 * self.confidence:.4g}% interval"] * bool(
            self.bootstrap
        )
        rows = []
        for name, (value, low, high) in self.metrics.items():
            row = [name, tables.number(value)]
            rows.append(row + [tables.span(low, high)] * bool(self.bootstrap))
        return header, rows

    def class_table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table of classes, of str."""
        columns = [name for name in next(iter(self.per_class.values())) if name != "support"]
        rows = [
            [name, *(tables.number(row[c]) for c in columns), tables.amount(row["support"])]
            for name, row in self.per_class.items()
        ]
        return ["class", *columns, "support"], rows

    def confusion_table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the confusion matrix, of str."""
        rows = [
            [name, *map(tables.amount, row)]
            for name, row in zip(self.class_names, self.confusion_matrix)
        ]
        return ["true \\ predicted", *self.class_names], rows

    def slice_table(self, column: str) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of one column's slices, of str."""
        shown = [name for name in _HEADLINES[self.task] if name in self.metrics]
        rows = []
        for value, found in self.slices[column].items():
            row = [value, tables.number(found["n"])]
            for name in shown:
                estimate = found["metrics"][name]
                interval = tables.span(estimate.low, estimate.high)
                row.append(tables.number(estimate.value) + (f" ({interval})" if interval else ""))
            rows.append(row)
        return [column, "n", *shown], rows

    @property
    def headlines(self) -> list[str]:
        """The names of the few metrics that a reader looks at first."""
        return [name for name in _HEADLINES[self.task] if name in self.metrics]

    # -- as files -----------------------------------------------------------------

    def to_dict(self) -> dict[str, typing.Any]:
        """Everything but the examples, of plain Python types; NaN is None.

        Curves have at most 200 points, and are those of the first 20 classes.
        """
        curves = {
            kind: {name: thinned(of[name]) for name in list(of)[:CURVES_IN_JSON]}
            for kind, of in self.curves.items()
        }
        slices = {
            column: {
                value: {"n": one["n"], "metrics": _as_dicts(one["metrics"])}
                for value, one in of.items()
            }
            for column, of in self.slices.items()
        }
        return tables.plain(
            {
                "model": self.name,
                "task": self.task,
                "examples": self.n,
                "threshold": self.threshold,
                "class_names": self.class_names,
                "metrics": _as_dicts(self.metrics),
                "confidence": self.confidence,
                "bootstrap": self.bootstrap,
                "seed": self.seed,
                "per_class": self.per_class,
                "confusion_matrix": self.confusion_matrix,
                "slices": slices,
                "curves": curves,
                "notes": self.notes,
            }
        )

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """`to_dict()` as JSON.

        Args:
            path: where to write it, too, or None.

        Returns:
            str.
        """
        return tables.to_json(self.to_dict(), path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Writes one HTML page that needs nothing beside it.

        Args:
            path: the file.

        Raises:
            ImportError: matplotlib is missing.
        """
        from tfdist.evaluation.html import report_page

        with open(path, "w", encoding="utf-8") as file:
            file.write(report_page(self))

    def save_plots(self, directory: str | os.PathLike[str]) -> list[pathlib.Path]:
        """Writes the plots as PNG files: roc, pr, calibration and confusion_matrix.

        Args:
            directory: made if it is not there.

        Returns:
            A list of the files' paths.

        Raises:
            ImportError: matplotlib is missing.
        """
        from tfdist.evaluation.plots import save

        return save(self, directory)

    def _repr_html_(self):
        from tfdist.evaluation.html import report_fragment

        return report_fragment(self)


_HEADLINES = {
    "binary": ["accuracy", "f1", "roc_auc", "pr_auc"],
    "multiclass": ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc"],
    "multilabel": ["exact_match", "f1_macro", "f1_micro", "roc_auc"],
}


def _as_dicts(metrics):
    return {name: estimate.to_dict() for name, estimate in metrics.items()}
