"""Which class scores speak for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from tfdist.metrics.base import SummedMetric

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows


class DecidedMetric(SummedMetric):
    """A metric of decisions: the class of the highest score, or whether a score is enough.

    Args:
        num_classes: int; see `SummedMetric`.
        threshold: float from 0 to 1; of one column, and of each with `multi_label`, a
            probability of at least it is a yes, as in `tfdist.evaluate`.
        from_logits: bool; whether scores are logits; they are compared with the threshold's.
        multi_label: bool; see `SummedMetric`.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        threshold: float = 0.5,
        from_logits: bool = False,
        multi_label: bool = False,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if not isinstance(threshold, (int, float)) or not 0.0 <= threshold <= 1.0:
            raise ValueError(
                f"threshold is {threshold!r}; expected a probability from 0 to 1, of logits too."
            )
        self.threshold = float(threshold)
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def decided(self, rows: Rows) -> tf.Tensor:
        """The int32 decisions: classes `(rows,)`, or 0 and 1 `(rows, classes)` if multi-label."""
        if not rows.is_binary and not rows.is_multi_label:
            return tf.argmax(rows.scores, 1, output_type=tf.int32)
        threshold = _logit(self.threshold) if self.from_logits else self.threshold
        return tf.cast(rows.scores >= threshold, tf.int32)

    def classes(self, columns: int) -> int:
        """How many classes scores of so many columns tell apart."""
        return columns if self.multi_label else max(columns, 2)

    def get_config(self) -> dict[str, Any]:
        """The arguments; `multi_label`, which not all subclasses take, is left to those."""
        config = {**super().get_config(), "threshold": self.threshold}
        del config["multi_label"]
        return config


def _logit(probability):
    if probability in (0.0, 1.0):
        return -math.inf if probability == 0.0 else math.inf
    return math.log(probability) - math.log1p(-probability)
