"""What `ROCAUC` and `PRAUC` share: the weights of both labels in bins of scores, by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.metrics.base import SummedMetric
from tfdist.metrics.score_bins import ScoreBins

if TYPE_CHECKING:
    from tfdist.metrics.inputs import Rows

AVERAGES = ("macro", "weighted", "micro")
# Of all classes together; but no class has fewer than the second.
BINS, LEAST_BINS = 2**17, 2**12


class BinnedMetric(SummedMetric):
    """An area under a curve, from the weights of both labels in fixed bins of scores.

    Args: see `ROCAUC`.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        average: str = "macro",
        from_logits: bool = False,
        multi_label: bool = False,
        num_bins: int | None = None,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average is {average!r}; expected one of {', '.join(AVERAGES)}.")
        self.average = average
        self.num_bins = integer("num_bins", num_bins, least=2, or_none=True)
        super().__init__(num_classes, from_logits, multi_label, name, dtype)

    def areas(self, negatives: tf.Tensor, positives: tf.Tensor) -> tf.Tensor:
        """The area of each class; `(..., bins)` to `(...)`."""
        raise NotImplementedError

    def bounds(
        self, negatives: tf.Tensor, positives: tf.Tensor, tied: tf.Tensor, weighted: tf.Tensor
    ) -> tf.Tensor:
        """How far the area of each class can be from that of the scores themselves.

        Args:
            tied: bool `(bins,)`; in which bins all scores are equal.
            weighted: bool `()`; whether any weight was not 1.
        """
        raise NotImplementedError

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        most = self.num_bins or max(BINS // columns, LEAST_BINS)
        binned_logits = self.from_logits and (columns == 1 or self.multi_label)
        self._bins = ScoreBins(binned_logits, most)
        return {"weights": (columns, 2, self._bins.size), "unlike_one": (), "rounded": ()}

    def count(self, rows: Rows) -> dict[str, tf.Tensor]:
        scores = rows.scores if not rows.is_binary else rows.scores[:, tf.newaxis]
        columns = scores.shape[-1]
        if self.from_logits and columns > 1 and not rows.is_multi_label:
            scores = tf.nn.softmax(scores)
        labels = rows.labels
        if not rows.is_multi_label:
            labels = labels[:, tf.newaxis]
            if columns > 1:
                labels = tf.cast(labels == tf.range(columns), tf.int32)
        size = self._bins.size
        places = (2 * tf.range(columns) + labels) * size + self._bins(scores)
        weights = tf.broadcast_to(rows.weights[:, tf.newaxis], tf.shape(scores))
        sums = tf.math.unsorted_segment_sum(weights, places, columns * 2 * size)
        unlike = (rows.weights != 1.0) & (rows.weights != 0.0)
        return {
            "weights": tf.reshape(sums, (columns, 2, size)),
            "unlike_one": tf.reduce_sum(tf.cast(unlike, tf.float64)),
            "rounded": rows.rounded,
        }

    def value(self, weights: tf.Tensor, weight: tf.Tensor, **_: tf.Tensor) -> tf.Tensor:
        return tf.where(weight > 0.0, self._mean(weights, self.areas), 0.0)

    def error_bound(self) -> tf.Tensor:
        """How far the result can be from the area of all scores, which no bins were made of.

        It holds for any scores. Float64 `()`; NaN where the area is not defined.

        Raises:
            ValueError: there were no data yet.
        """
        sums = self.some_sums()
        weighted = sums["unlike_one"] > 0.0
        # Scores of one float32 were perhaps not equal in front of a rounding to float32.
        tied = self._bins.single() & (sums["rounded"].numpy() == 0.0)
        return self._mean(
            sums["weights"],
            lambda negatives, positives: self.bounds(negatives, positives, tied, weighted),
        )

    def per_class(self) -> np.ndarray:
        """The area of each class against all others, a float64 array `(classes,)`.

        Raises:
            ValueError: there were no data yet.
        """
        weights = self.some_sums()["weights"]
        return self.areas(weights[:, 0], weights[:, 1]).numpy()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "average": self.average, "num_bins": self.num_bins}

    def _mean(self, weights, of):
        """The average of `of(negatives, positives)` over classes."""
        if self.average == "micro":
            weights = tf.reduce_sum(weights, 0, keepdims=True)
        values = of(weights[:, 0], weights[:, 1])
        if self.average == "weighted":
            share = tf.reduce_sum(weights[:, 1], -1)
            return tf.math.divide_no_nan(tf.reduce_sum(share * values), tf.reduce_sum(share))
        return tf.reduce_mean(values)

    def _counts_of_curve(self, class_id):
        """Thresholds, and the weights of negatives and positives at or above them."""
        weights = self.some_sums()["weights"].numpy()
        if class_id is None:
            if len(weights) > 1 and self.average != "micro":
                raise ValueError(
                    f"{self.name} has {len(weights)} classes: pass class_id, from 0 to "
                    f"{len(weights) - 1}, to say whose curve."
                )
            weights = weights.sum(0)
        elif not 0 <= class_id < len(weights):
            raise ValueError(f"class_id is {class_id!r}; expected 0 to {len(weights) - 1}.")
        else:
            weights = weights[class_id]
        some = np.flatnonzero(weights.sum(0))[::-1]
        false, true = np.cumsum(weights[:, some], 1)
        return self._bins.lowest_scores()[some], false, true

    def why_undefined(self, weights: np.ndarray, **_: np.ndarray) -> str | None:
        for column, (negatives, positives) in enumerate(weights.sum(-1)):
            if self._undefined(negatives, positives):
                which = f"class {column}" if len(weights) > 1 else "the second class"
                lack = "no examples" if positives == 0 else "all the examples"
                return f"{which} has {lack}, so {self._consequence}."
        return None
