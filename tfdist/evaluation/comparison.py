"""Two models on the same examples: is the difference more than chance?"""

import dataclasses
import os
import typing

import numpy as np
from scipy import stats

from tfdist.evaluation.bootstrap import (
    WITHOUT_AREAS,
    affords_areas,
    check_resampling,
    draw,
    interval,
    p_value,
)
from tfdist.evaluation.exact import Metrics
from tfdist.evaluation.report import EvaluationReport
from tfdist.pages import tables


class Difference(typing.NamedTuple):
    """A metric of both models, and what the second has more: value, interval, p value."""

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """A dict of the six by name."""
        names = ("first", "second", "difference", "low", "high", "p_value")
        return dict(zip(names, self))


class McNemar(typing.NamedTuple):
    """How many examples only one of the models gets right, and McNemar's exact p value."""

    only_first: int
    only_second: int
    both: int
    neither: int
    p_value: float

    def to_dict(self) -> dict[str, float]:
        """A dict of the five by name."""
        return dict(zip(("only_first", "only_second", "both", "neither", "p_value"), self))


@dataclasses.dataclass(eq=False, repr=False)
class Comparison:
    """What `tfdist.evaluation.compare` found; `print` shows it as a table.

    Attributes:
        first: `EvaluationReport`.
        second: `EvaluationReport`.
        metrics: dict of a metric's name to `(first, second, difference, low, high, p_value)`;
            the difference is the second's minus the first's.
        mcnemar: `(only_first, only_second, both, neither, p_value)`: how many examples only
            the first model gets right, and so on.
        confidence: float, of the intervals.
        bootstrap: int, the number of resamples.
        seed: int.
        notes: list of str, what a reader should know.
    """

    first: EvaluationReport
    second: EvaluationReport
    metrics: dict[str, Difference]
    mcnemar: McNemar
    confidence: float
    bootstrap: int
    seed: int
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def title(self) -> str:
        """One line: the models, the task, how many examples."""
        first = self.first
        return f"{first.name} against {self.second.name}: {first.task}, {first.n:,} examples"

    @property
    def mcnemar_sentence(self) -> str:
        """What McNemar's test says, in words."""
        found = self.mcnemar
        p = tables.p_value(found.p_value)
        sign = f"= {p}" if p[0] != "<" else f"< {p[1:]}"
        return (
            f"Only the first is right on {found.only_first:,} examples, only the second on "
            f"{found.only_second:,}; McNemar's exact test: p {sign}"
        )

    def __repr__(self) -> str:
        return f"<Comparison of {self.title}>"

    def __str__(self) -> str:
        lines = [self.title, "", *tables.aligned(*self.metrics_table()), "", self.mcnemar_sentence]
        return "\n".join([*lines, *[f"\nNote: {note}" for note in self.notes]])

    def metrics_table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table, of str."""
        header = ["metric", "first", "second", "difference"]
        if self.bootstrap:
            header += [f"{100 * self.confidence:.4g}% interval", "p"]
        rows = []
        for name, one in self.metrics.items():
            row = [name, *(tables.number(value) for value in one[:3])]
            if self.bootstrap:
                row += [tables.span(one.low, one.high), tables.p_value(one.p_value)]
            rows.append(row)
        return header, rows

    def to_dict(self) -> dict[str, typing.Any]:
        """Everything but the examples, of plain Python types; NaN is None."""
        return tables.plain(
            {
                "first": self.first.name,
                "second": self.second.name,
                "task": self.first.task,
                "examples": self.first.n,
                "metrics": {name: one.to_dict() for name, one in self.metrics.items()},
                "mcnemar": self.mcnemar.to_dict(),
                "confidence": self.confidence,
                "bootstrap": self.bootstrap,
                "seed": self.seed,
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
        """
        from tfdist.evaluation.html import comparison_page

        with open(path, "w", encoding="utf-8") as file:
            file.write(comparison_page(self))

    def _repr_html_(self):
        from tfdist.evaluation.html import comparison_fragment

        return comparison_fragment(self)


def compare(
    first: EvaluationReport,
    second: EvaluationReport,
    *,
    confidence: float = 0.95,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compares two reports on the same examples, such as of a model and its compressed form.

    McNemar's exact test looks at the examples that only one of the models gets right (in a
    multilabel task: all labels of the example); the paired bootstrap draws the same examples
    for both, and sees the difference of every metric. A p value of many metrics is not to be
    picked from: say beforehand which one counts.

    Example:

    >>> import numpy as np
    >>> from tfdist.evaluation.evaluate import evaluate
    >>> labels = np.tile([0, 1], 20)
    >>> worse = np.where(np.arange(40) < 6, 0.5 - 0.1 * labels, 0.2 + 0.6 * labels)
    >>> first = evaluate(lambda x: x, (0.2 + 0.6 * labels, labels))
    >>> comparison = compare(first, evaluate(lambda x: x, (worse, labels)))
    >>> comparison.mcnemar
    McNemar(only_first=6, only_second=0, both=34, neither=0, p_value=0.03125)

    With files:

    ```python
    original = tfdist.evaluate(model, (x_test, y_test))
    small = tfdist.evaluate("model_int8.tflite", (x_test, y_test))
    print(tfdist.evaluation.compare(original, small))
    ```

    Args:
        first: an `EvaluationReport`.
        second: an `EvaluationReport` of the same examples in the same order. Each keeps its
            own threshold.
        confidence: float, of the percentile intervals of the differences.
        bootstrap: int, the number of resamples; 0 for none.
        seed: int, for the resamples.

    Returns:
        A `Comparison`. McNemar's test counts examples, whatever their weights.

    Raises:
        ValueError: the reports are of different tasks, labels or weights.

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions
        or percentages, Psychometrika 1947; Efron and Tibshirani, An Introduction to the
        Bootstrap, 1993.
    """
    _check_same_examples(first, second)
    check_resampling(confidence, bootstrap)
    areas = affords_areas(first.predictions, 2 * bootstrap)
    notes = [] if areas else [WITHOUT_AREAS]
    drawn: list[dict[str, np.ndarray]] = [{}, {}]
    if bootstrap:
        both = [Metrics(one.predictions, _cutoff(one), areas=areas) for one in (first, second)]
        drawn = draw(both, first.weights, bootstrap, seed)
    metrics = {}
    for name, estimate in first.metrics.items():
        values = estimate.value, second.metrics[name].value
        found = (np.nan, np.nan, np.nan)
        if name in drawn[0] and np.isfinite(values).all():
            differences = drawn[1][name] - drawn[0][name]
            found = (*interval(differences, confidence), p_value(differences))
        metrics[name] = Difference(*values, values[1] - values[0], *found)
    return Comparison(
        first, second, metrics, mcnemar(first, second), confidence, bootstrap, seed, notes
    )


def mcnemar(first: EvaluationReport, second: EvaluationReport) -> McNemar:
    """McNemar's exact test: of the examples on which the models differ, a fair coin?

    Args:
        first: an `EvaluationReport`.
        second: an `EvaluationReport` of the same examples.

    Returns:
        A `McNemar`; its p value is two-sided, and 1 where the models never differ.
    """
    one = first.predictions.correct(_cutoff(first))
    other = second.predictions.correct(_cutoff(second))
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    differ = only_first + only_second
    p = stats.binomtest(only_first, differ, 0.5).pvalue if differ else 1.0
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    return McNemar(only_first, only_second, both, neither, float(p))


def _cutoff(report):
    return 0.5 if report.threshold is None else report.threshold


def _check_same_examples(first, second):
    for position, one in (("first", first), ("second", second)):
        if not isinstance(one, EvaluationReport):
            raise ValueError(
                f"Received a {type(one).__name__} as the {position} report; expected what "
                "`tfdist.evaluate` returns."
            )
    if first.task != second.task or first.predictions.num_classes != second.predictions.num_classes:
        raise ValueError(
            f"Received reports of a {first.task} task with {len(first.class_names)} classes and of "
            f"a {second.task} task with {len(second.class_names)}; expected the same. Pass `task` "
            "to `tfdist.evaluate`."
        )
    if first.n != second.n:
        raise ValueError(
            f"Received reports of {first.n:,} and of {second.n:,} examples; expected the same "
            "examples in the same order. Evaluate both models on the same data."
        )
    for what, one, other in (
        ("labels", first.labels, second.labels),
        ("weights", first.weights, second.weights),
    ):
        differ = one != other
        if differ.any():
            raise ValueError(
                f"The reports have different {what}, first at example "
                f"{int(np.argwhere(differ)[0][0])}; expected the same examples in the same order. "
                "Does the data set shuffle? Evaluate both models on the same arrays."
            )
