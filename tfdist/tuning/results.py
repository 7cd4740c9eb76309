"""What a search for hyper-parameters has found."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


class SearchResults:
    """All trials of a search, the best first.

    Attributes:
        objective: str; what was compared, such as `"val_loss"`.
        direction: `"min"` or `"max"`.
        trials: list of dicts with `trial` (its name), `status` (`"COMPLETED"`, or `"INVALID"` or
            `"FAILED"` where it raised), `score` (None without one), `epoch` (of the score),
            `hyperparameters` (dict) and `error` (the last line of its traceback, or None).
    """

    def __init__(
        self,
        objective: str,
        direction: str,
        trials: Iterable[dict[str, Any]],
        load_model: Callable[[str], keras.Model],
    ) -> None:
        self.objective, self.direction = objective, direction
        sign = 1 if direction == "min" else -1

        def order(trial):
            score = trial["score"]
            return (score is None or math.isnan(score), sign * (score or 0.0), _number(trial))

        self.trials = sorted(trials, key=order)
        self._load_model = load_model

    def best_hyperparameters(self) -> dict[str, Any]:
        """The dict of hyper-parameters of the best trial."""
        return dict(self.trials[0]["hyperparameters"])

    def best_model(self) -> keras.Model:
        """The model of the best trial: the weights of its best epoch, a new optimizer."""
        return self._load_model(self.trials[0]["trial"])

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The trials as JSON; written to `path` where one is given.

        Returns:
            str.
        """
        facts = {"objective": self.objective, "direction": self.direction, "trials": self.trials}
        text = json.dumps(facts, indent=2, allow_nan=False, default=str)
        if path is not None:
            pathlib.Path(path).write_text(text)
        return text

    def __str__(self) -> str:
        names = self._names()
        rows = [["trial", self.objective, *names, "status"]]
        for trial in self.trials:
            score = "-" if trial["score"] is None else f"{trial['score']:.6g}"
            values = [_short(trial["hyperparameters"].get(name, "-")) for name in names]
            rows.append([trial["trial"], score, *values, trial["error"] or trial["status"].lower()])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        return "\n".join(
            "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]])
            for row in rows
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the objective against each hyper-parameter, and the best so far.

        Needs matplotlib: `pip install "tfdist[plots]"`.

        Args:
            path: where to write it; its ending decides about the format.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                'Plots need matplotlib: pip install "tfdist[plots]" brings it.'
            ) from error
        done = sorted((t for t in self.trials if t["score"] is not None), key=_number)
        names = self._names()
        figure = Figure(figsize=(3.2 * (len(names) + 1), 3.2), layout="constrained")
        first, *others = figure.subplots(1, len(names) + 1, sharey=True, squeeze=False)[0]
        scores = [trial["score"] for trial in done]
        best = min if self.direction == "min" else max
        so_far = [best(scores[: count + 1]) for count in range(len(scores))]
        first.step(range(1, len(scores) + 1), so_far, where="post", label="best so far")
        first.plot(range(1, len(scores) + 1), scores, "o", label="a trial")
        first.set(xlabel="trial", ylabel=self.objective)
        first.legend(frameon=False)
        for axes, name in zip(others, names):
            axes.plot([_point(trial["hyperparameters"].get(name)) for trial in done], scores, "o")
            axes.set_xlabel(name)
        figure.savefig(path)

    def _names(self):
        return list(dict.fromkeys(n for trial in self.trials for n in trial["hyperparameters"]))


def _number(trial):
    """Sorts names of trials, which are numbers, in their order."""
    return len(trial["trial"]), trial["trial"]


def _short(value):
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _point(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
