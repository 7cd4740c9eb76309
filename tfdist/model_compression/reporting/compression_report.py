"""`CompressionReport`: as text, JSON, HTML and a plot."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import textwrap
from typing import Any

from tfdist.model_compression.reporting.facts import COUNTS, LayerFacts, ModelFacts
from tfdist.pages import tables

_WIDTH = 100  # of a terminal
_WORDS = {
    "parameters": "parameters",
    "nonzeros": "non-zeros",
    "macs": "MACs",
    "nonzero_macs": "MACs that meet non-zeros",
    "bytes": "bytes",
    "gzip_bytes": "gzip bytes",
}
_IN_TEXT = ("parameters", "nonzeros", "macs", "bytes", "gzip_bytes")
_HOW = (
    "MACs: multiply-accumulates of one example. Bytes: the weights as arrays, uncompressed, as "
    "`.keras` and `.weights.h5` files hold them, without the optimizer's; gzip: of each layer's "
    "by itself. Zeros alone make no prediction faster: only MACs that are gone do."
)


@dataclasses.dataclass(frozen=True)
class CompressionReport:
    """A model, and what was made of it; see `tfdist.model_compression.report`.

    Attributes:
        before: what is known of the model: its `layers`, `total(count)` of "parameters",
            "nonzeros", "macs", "nonzero_macs", "bytes" or "gzip_bytes", `metrics`, `latency`.
        after: the same of the other one, or None.
    """

    before: ModelFacts
    after: ModelFacts | None = None

    @property
    def models(self) -> list[ModelFacts]:
        """Those that there are."""
        return [self.before] if self.after is None else [self.before, self.after]

    @property
    def title(self) -> str:
        """The models' names, str."""
        names = list(dict.fromkeys(model.name for model in self.models))
        return " and ".join(names) if len(names) > 1 else names[0]

    @property
    def notes(self) -> list[str]:
        """What the reader must know of the numbers, as sentences."""
        labels = ["before", "after"] if self.after else [""]
        found = [(label, note) for label, model in zip(labels, self.models) for note in model.notes]
        both = [note for label, note in found if ("before", note) in found and label == "after"]
        alone = [
            f"{label[0].upper()}{label[1:]}: {note}" if label else note
            for label, note in found
            if note not in both
        ]
        return [*both, *alone]

    @property
    def how(self) -> list[str]:
        """How the numbers were counted and measured, in a few sentences."""
        known = [model.latency for model in self.models if model.latency]
        if not known:
            return [_HOW]
        turn = ", of both models in turn" if self.after else ""
        return [
            _HOW,
            f"Latency: of one prediction with a batch of {known[0].batch_size}, in a tf.function "
            f"on this machine: the median of {known[0].repeats}, and the quartiles{turn}.",
        ]

    def pairs(self) -> list[tuple[str, LayerFacts | None, LayerFacts | None]]:
        """By layer: its name, what it was, and what became of it; None where it is not."""
        before, after = (
            {layer.name: layer for layer in model.layers} if model else {}
            for model in (self.before, self.after)
        )
        names, place = list(before), 0
        for name in after:  # a new layer stands behind the one that it comes behind
            if name in before:
                place = names.index(name) + 1
            else:
                names.insert(place, name)
                place += 1
        return [(name, before.get(name), after.get(name)) for name in names]

    # -- as tables ------------------------------------------------------------------

    def summary_table(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of what is known of the whole, of str."""
        rows = []
        for count in COUNTS:
            values = [model.total(count) for model in self.models]
            if any(value is not None for value in values):
                rows.append([_WORDS[count], *map(tables.number, values), *_percent(values)])
        for key, words in (("file_bytes", "bytes of the file"), ("file_gzip_bytes", "after gzip")):
            values = [getattr(model, key) for model in self.models]
            if any(value is not None for value in values):
                rows.append([words, *map(tables.number, values), *_percent(values)])
        for name in dict.fromkeys(name for model in self.models for name in model.metrics or ()):
            values = [(model.metrics or {}).get(name) for model in self.models]
            rows.append([name, *map(tables.number, values), *_difference(values)])
        times = [model.latency for model in self.models]
        if any(times):
            medians = [time and time.median_ms for time in times]
            shown = [
                f"{time.median_ms:.3g} ({time.low_ms:.3g} to {time.high_ms:.3g})" if time else "-"
                for time in times
            ]
            rows.append(["latency, ms", *shown, *_percent(medians)])
        return ["", "before", "after", "change"] if self.after else ["", "model"], rows

    def layer_table(
        self, counts: tuple[str, ...] = COUNTS, compact: bool = False, arrow: str = " -> "
    ) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the layers, of str: before and after where they differ.

        Args:
            counts: the columns.
            compact: bool, whether counts take at most five characters, as 12.3k.
            arrow: what stands between the two.
        """
        shown, rows = _compact if compact else tables.number, []
        for name, before, after in self.pairs():
            row = [name]
            for count in counts:
                values = [shown(getattr(one, count) if one else None) for one in (before, after)]
                if self.after is None or values[0] == values[1]:
                    row.append(values[0])
                else:
                    row.append(arrow.join(values))
            rows.append(row)
        return ["layer", *(_WORDS[count] for count in counts)], rows

    def __str__(self) -> str:
        lines = [self.title, "", *tables.aligned(*self.summary_table()), ""]
        header, rows = self.layer_table(_IN_TEXT, compact=True)
        others = tables.aligned(header[1:], [row[1:] for row in rows])
        # The first of them is aligned to the left: two wider at most.
        room = max(12, _WIDTH - 4 - max(map(len, others)))
        lines += tables.aligned(header, [[_last(row[0], room), *row[1:]] for row in rows])
        for text in [*self.notes, *self.how]:
            lines += ["", *textwrap.wrap(text, _WIDTH)]
        return "\n".join(lines)

    # -- as files -----------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All of it, of plain Python types."""

        def plain(model):
            if model is None:
                return None
            totals = {count: model.total(count) for count in COUNTS}
            return {**dataclasses.asdict(model), "total": totals}

        return tables.plain({"before": plain(self.before), "after": plain(self.after)})

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
        from tfdist.model_compression.reporting.page import report_page

        pathlib.Path(path).write_text(report_page(self), "utf-8")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws what is left in all, and the layers, before and after.

        Args:
            path: the file, `.png` or `.svg`.

        Raises:
            ImportError: matplotlib is missing.
            ValueError: a file of another kind.
        """
        from tfdist.model_compression.reporting.plot import draw

        path = pathlib.Path(path)
        form = path.suffix.removeprefix(".").lower()
        if form not in ("png", "svg"):
            raise ValueError(f"{str(path)!r}: expected a path that ends with .png or .svg.")
        path.write_bytes(draw(self, form=form))

    def _repr_html_(self) -> str:
        from tfdist.model_compression.reporting.page import report_fragment

        return report_fragment(self)


def _percent(values):
    if len(values) < 2:
        return []
    before, after = values
    return ["-" if before in (None, 0) or after is None else f"{100 * (after / before - 1):+.1f}%"]


def _difference(values):
    if len(values) < 2:
        return []
    before, after = values
    return ["-" if None in values else f"{after - before:+.4f}"]


def _compact(value):
    """A count in at most five characters: 9408, 12.3k, 1.23M."""
    if value is None:
        return "-"
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit and value > 9999:
            shown = f"{value / unit:.3g}" if value < 999.5 * unit else f"{value / unit:.0f}"
            return shown + letter
    return str(value)


def _last(name, room):
    return name if len(name) <= room else "..." + name[3 - room :]
