"""The F1 score of entities in sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfdist.metrics import counts as counting
from tfdist.metrics import entities, inputs
from tfdist.metrics.base import SummedMetric

AVERAGES = ("micro", "macro", "weighted")


@keras.saving.register_keras_serializable(package="tfdist")
class EntityF1Score(SummedMetric):
    """The F1 score of whole entities, of a model that tags the tokens of sequences.

    An entity is right if its first token, its last and its type are: half a name is no name.
    What counts as an entity are the rules of the CoNLL-2003 evaluation (`tfdist.metrics.entities`),
    that also read tags in an order that the scheme does not allow.

    Labels have shape `(batch, time)`, scores `(batch, time, tags)`, of any kind: the
    highest counts. A token of weight 0 (padding, or all but the first piece of a word) is left
    out, as if it were not there; so is one that the model masks. Any other weight is that of
    the entities that begin there.

    Example:

    >>> import keras, tfdist
    >>> f1 = tfdist.metrics.EntityF1Score(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    >>> labels = [[1, 2, 0, 3, 0]]
    >>> predicted = [[1, 2, 0, 3, 4]]  # the place is one token too long
    >>> f1.update_state(labels, keras.ops.one_hot(predicted, 5))
    >>> float(f1.result()), float(f1.precision()), float(f1.recall())
    (0.5, 0.5, 0.5)
    >>> f1.per_class()["PER"]
    {'precision': 1.0, 'recall': 1.0, 'f1_score': 1.0, 'support': 1.0}

    Args:
        labels: list of str; the tag of each class: `"O"`, or a letter of the scheme and a type,
            `"B-PER"`; a letter alone, where entities have one type (words of Chinese, by BMES).
        scheme: `"BIO"`, `"BMES"` or `"BIOES"`: what the letters are. S is an entity of one token.
        average: `"micro"`: of all types' counts together, as the CoNLL-2003 evaluation;
            `"macro"`: the mean over the types that occur; `"weighted"`: by how many there are.
        name: str.
        dtype: unused; the state is float64, 24 bytes a type.

    Raises:
        ValueError: labels that are no tags of the scheme, shapes that do not fit each other; when
            the result is read: labels out of range.

    Reference:

    - Tjong Kim Sang and De Meulder, 2003, "Introduction to the CoNLL-2003 shared task:
      language-independent named entity recognition".
    """

    def __init__(
        self,
        labels: Sequence[str],
        scheme: str = "BIO",
        average: str = "micro",
        name: str = "entity_f1_score",
        dtype: str | None = None,
    ) -> None:
        if average not in AVERAGES:
            raise ValueError(f"average is {average!r}; expected one of {', '.join(AVERAGES)}.")
        self._labels = tuple(labels)
        self._tags = entities.Tags(self._labels, scheme)
        self.scheme = scheme
        self.average = average
        super().__init__(num_classes=len(self._labels), name=name, dtype=dtype)

    def state_shapes(self, columns: int) -> dict[str, tuple[int, ...]]:
        return {"counts": (3, len(self._tags.types))}

    def update_state(
        self,
        y_true: tf.types.experimental.TensorLike,
        y_pred: tf.types.experimental.TensorLike,
        sample_weight: tf.types.experimental.TensorLike | None = None,
    ) -> None:
        if not tf.is_tensor(y_pred):  # a tensor may have a mask
            y_pred = tf.convert_to_tensor(y_pred)
        if y_pred.shape.rank != 3 or y_pred.shape[-1] != len(self._labels):
            raise ValueError(
                f"{self.name}: y_pred has shape {y_pred.shape}; expected (batch, time, "
                f"{len(self._labels)}), with a score for each of labels."
            )
        # The order of scores is all that counts, so they may be logits.
        rows = inputs.rows(y_true, y_pred, sample_weight, from_logits=True)
        predicted = tf.argmax(rows.scores, 1, output_type=tf.int32)
        tokens = tf.shape(y_pred)[:2]
        parts = [tf.reshape(one, tokens) for one in (rows.labels, predicted, rows.weights)]
        self._add(rows, {"counts": entities.count(self._tags, *parts)})

    def value(self, counts: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        return counting.mean(counting.f1_score, counts, self.average)

    def precision(self) -> tf.Tensor:
        """The average precision, float64 `()`.

        All workers must call it together, as they must read any metric.

        Raises:
            ValueError: there were no data yet.
        """
        return counting.mean(counting.precision, self.some_sums()["counts"], self.average)

    def recall(self) -> tf.Tensor:
        """The average recall, float64 `()`.

        All workers must call it together, as they must read any metric.

        Raises:
            ValueError: there were no data yet.
        """
        return counting.mean(counting.recall, self.some_sums()["counts"], self.average)

    def per_class(self) -> dict[str, dict[str, float]]:
        """Dict of type to dict of `precision`, `recall`, `f1_score` and `support`, floats.

        All workers must call it together, as they must read any metric.

        Raises:
            ValueError: there were no data yet.
        """
        counts = self.some_sums()["counts"]
        columns = {
            "precision": counting.precision(counts),
            "recall": counting.recall(counts),
            "f1_score": counting.f1_score(counts),
            "support": counts[counting.ACTUAL],
        }
        return {
            type_: {name: float(column[place]) for name, column in columns.items()}
            for place, type_ in enumerate(self._tags.types)
        }

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        mine = {"labels": list(self._labels), "scheme": self.scheme, "average": self.average}
        return {"name": config["name"], "dtype": config["dtype"], **mine}
