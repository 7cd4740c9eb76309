"""What all metrics of this room share: sums over examples, in float64, of fixed size.

A sum is the same whatever worker an example was on, so the global value of a metric is
that of the sums' sum. float64 counts whole numbers exactly up to 2**53.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from tfdist.arguments import integer
from tfdist.metrics import inputs

if TYPE_CHECKING:
    import numpy as np

_WHY = {
    inputs.BAD_LABELS: (
        "{count:.0f} examples have labels that are none of 0 to {last}, or rows that are not "
        "one-hot (multi-hot with multi_label=True). Correct the labels."
    ),
    inputs.BAD_PROBABILITIES: (
        "{count:.0f} examples have scores outside of 0 to 1. "
        "Pass from_logits=True if the model ends without sigmoid or softmax."
    ),
    inputs.BAD_WEIGHTS: "{count:.0f} examples have a negative sample_weight.",
}


class SummedMetric(keras.metrics.Metric):
    """A metric whose state is a few sums over the examples.

    Subclasses say which (`state_shapes`), what a batch adds to them (`count`), and what
    is read from them (`value`). The weight of all examples, `weight`, is always one.

    Where a score is NaN the result is NaN, as the loss is. Labels out of range, scores
    outside of 0 to 1 without `from_logits`, and negative weights are an error when the
    result is read outside of a graph (`fit` does it at the end of each epoch), and NaN before.
    What labels leave undefined is a warning there, once a metric.

    Args:
        num_classes: int; None: the last dimension of the first scores (1: two classes).
        from_logits: bool; whether scores are logits.
        multi_label: bool; whether each class is a question of its own.
    """

    default_name: str | None = None

    def __init__(
        self,
        num_classes: int | None = None,
        from_logits: bool = False,
        multi_label: bool = False,
        name: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name or self.default_name, dtype=dtype)
        meaning = "the last dimension of the scores (1: the scores of the second of two classes)"
        self.num_classes = integer(
            "num_classes", num_classes, least=1, meaning=meaning, or_none=True
        )
        self.from_logits = bool(from_logits)
        self.multi_label = bool(multi_label)
        self._sums = None
        self._warned = False
        if num_classes is not None:
            self._make_sums(num_classes)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        """Dict of the shape of each sum, for scores of so many columns."""
        raise NotImplementedError

    def count(self, rows: inputs.Rows) -> dict[str, tf.Tensor]:
        """Dict of what `rows` add to the sums."""
        raise NotImplementedError

    def value(self, **sums: tf.Tensor) -> tf.Tensor:
        """The result, float64 of shape `()`."""
        raise NotImplementedError

    def why_undefined(self, **sums: np.ndarray) -> str | None:
        """A sentence if labels are such that the result says nothing; None otherwise.

        Args:
            **sums: the sums as NumPy arrays; there are some data in them.
        """
        return None

    def update_state(
        self,
        y_true: tf.types.experimental.TensorLike,
        y_pred: tf.types.experimental.TensorLike,
        sample_weight: tf.types.experimental.TensorLike | None = None,
    ) -> None:
        rows = inputs.rows(
            y_true,
            y_pred,
            sample_weight,
            multi_label=self.multi_label,
            from_logits=self.from_logits,
        )
        columns = 1 if rows.is_binary else rows.scores.shape[-1]
        if self._sums is None:
            self._make_sums(columns)
        elif columns != self._columns:
            raise ValueError(
                f"{self.name}: y_pred has {columns} columns; expected {self._columns}, "
                "as num_classes or the first batch had."
            )
        self._add(rows, self.count(rows))

    def result(self) -> tf.Tensor:
        if self._sums is None:
            return tf.constant(0.0, tf.float64)
        invalid = tf.convert_to_tensor(self._invalid.value)
        sums = self.sums()
        if tf.executing_eagerly():
            self._raise_if_bad(invalid.numpy())
            self._warn_if_undefined(sums)
        value = self.value(**sums)
        return tf.where(tf.reduce_any(invalid > 0.0), tf.constant(float("nan"), tf.float64), value)

    def sums(self) -> dict[str, tf.Tensor]:
        """Dict of the sums over all examples, float64 tensors.

        Raises:
            ValueError: there was no batch yet, so that their shapes are not known.
        """
        if self._sums is None:
            raise self._no_data()
        return {name: tf.convert_to_tensor(one.value) for name, one in self._sums.items()}

    def some_sums(self) -> dict[str, tf.Tensor]:
        """The sums, of at least one example that counts. Not for graphs.

        Raises:
            ValueError: there was none yet.
        """
        sums = self.sums()
        if not sums["weight"] > 0.0:
            raise self._no_data()
        return sums

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "from_logits": self.from_logits,
            "multi_label": self.multi_label,
        }

    def _no_data(self):
        return ValueError(f"{self.name} has seen no data: call update_state or fit first.")

    def _make_sums(self, columns):
        self._columns = columns
        shapes = {**self.state_shapes(columns), "weight": ()}
        self._sums = {
            name: self.add_variable(shape, "zeros", dtype="float64", name=name)
            for name, shape in shapes.items()
        }
        self._invalid = self.add_variable((inputs.KINDS,), "zeros", dtype="float64", name="invalid")

    def _add(self, rows, more):
        more = {**more, "weight": tf.reduce_sum(rows.weights)}
        for name, value in more.items():
            self._sums[name].assign_add(value)
        self._invalid.assign_add(rows.invalid)

    def _warn_if_undefined(self, sums):
        if self._warned or not sums["weight"] > 0.0:
            return
        why = self.why_undefined(**{name: value.numpy() for name, value in sums.items()})
        if why is not None:
            from sklearn.exceptions import UndefinedMetricWarning

            self._warned = True
            warnings.warn(f"{self.name}: {why}", UndefinedMetricWarning, stacklevel=3)

    def _raise_if_bad(self, invalid):
        last = max(self._columns - 1, 1)
        for kind, why in _WHY.items():
            if invalid[kind] > 0.0:
                raise ValueError(f"{self.name}: {why.format(count=invalid[kind], last=last)}")
