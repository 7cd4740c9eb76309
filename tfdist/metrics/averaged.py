"""What `Precision`, `Recall` and `F1Score` share: a number a class, and their average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfdist.arguments import integer
from tfdist.metrics import counts as counting
from tfdist.metrics.counts import CountedMetric

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

AVERAGES = ("binary", "macro", "micro", "weighted")


class AveragedMetric(CountedMetric):
    """A number a class, averaged.

    Args: see `F1Score`.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        average: str | None = None,
        class_id: int | None = None,
        threshold: float = 0.5,
        from_logits: bool = False,
        multi_label: bool = False,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        if average not in (None, *AVERAGES):
            raise ValueError(f"average is {average!r}; expected one of {', '.join(AVERAGES)}.")
        class_id = integer("class_id", class_id, least=0, or_none=True)
        if average is not None and class_id is not None:
            raise ValueError(
                f"average is {average!r} and class_id {class_id}: the result is either an average "
                "or that of one class. Pass one of them."
            )
        self.average = average
        self.class_id = class_id
        super().__init__(num_classes, threshold, from_logits, multi_label, name, dtype)

    def of(self, counts: tf.Tensor) -> tf.Tensor:
        """The number of each class; counts `(3, ...)` to `(...)`."""
        raise NotImplementedError

    def value_of(self, counts: tf.Tensor) -> tf.Tensor:
        one = self._one_class(counts.shape[1])
        if one is not None:
            return self.of(counts)[one]
        return counting.mean(self.of, counts, self.average or "macro", of_all=self.multi_label)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        shapes = super().state_shapes(columns)
        _, classes = shapes["counts"]
        if self.average == "binary" and (classes != 2 or self.multi_label):
            raise ValueError(
                f"{self.name}: average is 'binary', which is for two classes; there are {classes} "
                f"{'labels' if self.multi_label else 'classes'}. Pass 'macro', 'micro' or "
                "'weighted', or class_id."
            )
        if self.class_id is not None and self.class_id >= classes:
            raise ValueError(
                f"{self.name}: class_id is {self.class_id}; expected 0 to {classes - 1}."
            )
        return shapes

    def per_class(self) -> np.ndarray:
        """The number of each class, a float64 array `(classes,)`; of one column, of both.

        All workers must call it together, as they must read any metric.

        Raises:
            ValueError: there were no data yet.
        """
        return self.of(self.some_sums()["counts"]).numpy()

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "average": self.average,
            "class_id": self.class_id,
            "multi_label": self.multi_label,
        }

    def _one_class(self, classes):
        """The class whose number is the result; None: it is an average."""
        if self.class_id is not None:
            return self.class_id
        two = classes == 2 and not self.multi_label
        return 1 if self.average == "binary" or (self.average is None and two) else None

    def _without_examples(self, counts):
        """The class whose number is the result if no label is of it; None otherwise."""
        one = self._one_class(counts.shape[1])
        return one if one is not None and counts[counting.ACTUAL, one] == 0.0 else None
