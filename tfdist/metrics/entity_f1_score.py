"""F1 of named entities, whole spans of tags."""

import keras
import tensorflow as tf

from tfdist.compat.masks import mask_of
from tfdist.metrics import averaged, inputs

# What a prefix means: 0 outside, 1 begin, 2 inside, 3 end, 4 single.
OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
SCHEMES = {
    "BIO": {"B": BEGIN, "I": INSIDE},
    "BMES": {"B": BEGIN, "M": INSIDE, "E": END, "S": SINGLE},
}
AVERAGES = ("micro", "macro", "weighted")


@keras.saving.register_keras_serializable(package="tfdist")
class EntityF1Score(keras.metrics.Metric):
    """F1 of entities in sequences of tags: one is right if its begin, end and type all are.

    Where entities begin and end is decided as by the evaluation of CoNLL-2003: an inside tag
    after another type, or after none, begins an entity, too. Tokens without weight
    (padding) are outside of all entities.

    Example:

    >>> import numpy as np, tfdist
    >>> metric = tfdist.metrics.EntityF1Score(["O", "B-PER", "I-PER"])
    >>> tags = np.array([[0, 1, 2, 0, 1]])
    >>> scores = np.eye(3)[[[0, 1, 2, 0, 0]]]  # the second person is missed
    >>> metric.update_state(tags, scores)
    >>> round(float(metric.result()), 4)
    0.6667

    Args:
        labels: list of str; the tag of each class: `"O"`, and `"PREFIX-TYPE"`.
        scheme: `"BIO"`: begin, inside; `"BMES"`: begin, middle, end, single.
        average: `"micro"`: of all entities; `"macro"`: the mean over types that occur;
            `"weighted"`: by the number of entities.
        name: str.
        dtype: unused; the state is float64.

    `y_true` is `(batch, time)`, `y_pred` `(batch, time, tags)` (any scores: the highest counts);
    of `sample_weight`, `(batch, time)` or `(batch,)`, it only matters where it is 0.

    Raises:
        ValueError: tags that are not of the scheme; shapes that do not fit; when the result
            is read: labels out of range.

    Reference:

    - Tjong Kim Sang and De Meulder, 2003, "Introduction to the CoNLL-2003 shared task"
      (cs/0306050).
    """

    def __init__(self, labels, scheme="BIO", average="micro", name="entity_f1_score", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if scheme not in SCHEMES:
            raise ValueError(f"scheme is {scheme!r}; expected one of {', '.join(SCHEMES)}.")
        if average not in AVERAGES:
            raise ValueError(f"average is {average!r}; expected one of {', '.join(AVERAGES)}.")
        self.labels, self.scheme, self.average = list(labels), scheme, average
        parts = [self._parts_of(label) for label in self.labels]
        self.types = sorted({kind for _, kind in parts if kind is not None})
        if not self.types:
            raise ValueError(f"labels are {self.labels}: none of them is a part of an entity.")
        self._prefixes = [prefix for prefix, _ in parts]
        self._kinds = [-1 if kind is None else self.types.index(kind) for _, kind in parts]
        self._counts = self.add_variable(
            (3, len(self.types)), "zeros", dtype="float64", name="counts"
        )
        self._bad = self.add_variable((), "zeros", dtype="float64", name="bad")

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = mask_of(y_pred)
        y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        tags = len(self.labels)
        if y_pred.shape.rank != 3 or y_pred.shape[-1] != tags:
            raise ValueError(
                f"{self.name}: y_pred has shape {y_pred.shape}; expected (batch, time, {tags})."
            )
        if not y_true.shape.is_compatible_with(y_pred.shape[:2]):
            raise ValueError(
                f"{self.name}: y_true has shape {y_true.shape} and y_pred {y_pred.shape}; "
                f"y_true must have shape {y_pred.shape[:2]}, with tags from 0 to {tags - 1}."
            )
        there = inputs.row_weights(sample_weight, y_pred) != 0.0
        if mask is not None:
            there &= inputs.row_weights(mask, y_pred) > 0.0
        there = tf.reshape(there, tf.shape(y_pred)[:2])
        gold = tf.cast(y_true, tf.int32)
        bad = there & ((gold < 0) | (gold >= tags))
        self._bad.assign_add(tf.reduce_sum(tf.cast(bad, tf.float64)))
        gold = tf.clip_by_value(gold, 0, tags - 1)
        found = tf.argmax(y_pred, -1, output_type=tf.int32)
        self._counts.assign_add(self._count(self._spans(gold, there), self._spans(found, there)))

    def result(self):
        bad = tf.convert_to_tensor(self._bad.value)
        if tf.executing_eagerly() and bad.numpy() > 0.0:
            raise ValueError(
                f"{self.name}: {bad.numpy():.0f} tokens have labels that are none of 0 to "
                f"{len(self.labels) - 1}. Correct them, or give padding a sample_weight of 0."
            )
        value = averaged.average(averaged.f1, self._counts_now(), self.average)
        return tf.where(bad > 0.0, tf.constant(float("nan"), tf.float64), value)

    def per_class(self):
        """Dict of `(precision, recall, f1, entities)` by type."""
        counts = self._counts_now()
        ratios = (averaged.precision, averaged.recall, averaged.f1)
        columns = [ratio(*tf.unstack(counts)).numpy().tolist() for ratio in ratios]
        columns.append(counts[2].numpy().tolist())
        return dict(zip(self.types, zip(*columns)))

    def get_config(self):
        config = {"labels": self.labels, "scheme": self.scheme, "average": self.average}
        return {**super().get_config(), **config}

    def _parts_of(self, label):
        """`(prefix, type)` of a tag."""
        if label == "O":
            return OUTSIDE, None
        prefix, _, kind = str(label).partition("-")
        prefixes = SCHEMES[self.scheme]
        if prefix not in prefixes or not kind:
            wanted = ", ".join(f"'{one}-TYPE'" for one in prefixes)
            raise ValueError(
                f"labels hold {label!r}; of the scheme {self.scheme} are 'O', {wanted}."
            )
        return prefixes[prefix], kind

    def _counts_now(self):
        return tf.convert_to_tensor(self._counts.value)

    def _spans(self, tags, there):
        """Which tokens begin an entity, end one, and of which type they are (-1: of none)."""
        prefix = tf.where(there, tf.gather(tf.constant(self._prefixes), tags), OUTSIDE)
        kind = tf.where(there, tf.gather(tf.constant(self._kinds), tags), -1)
        before, kind_before = _shifted(prefix, kind, 1)
        after, kind_after = _shifted(prefix, kind, -1)
        inside = prefix != OUTSIDE
        closed = (before == OUTSIDE) | (before == END) | (before == SINGLE) | (kind_before != kind)
        begins = inside & ((prefix == BEGIN) | (prefix == SINGLE) | closed)
        opens = (after == OUTSIDE) | (after == BEGIN) | (after == SINGLE) | (kind_after != kind)
        ends = inside & ((prefix == END) | (prefix == SINGLE) | opens)
        return begins, ends, kind

    def _count(self, gold, found):
        """Float64 `(3, types)`: right entities, found ones and true ones."""
        begins, ends, kind = gold
        found_begins, found_ends, found_kind = found
        # An entity is right if the other begins with it, of its type, and then ends nowhere
        # but at its end: its tokens have no such difference.
        other = (ends != found_ends) | (begins & ~(found_begins & (found_kind == kind)))
        differs = tf.cast(other & (kind >= 0), tf.int32)
        # Between two ends lies one entity, and what is outside.
        shape = tf.shape(kind)
        number = tf.cumsum(tf.cast(ends, tf.int32), 1, exclusive=True)
        number += tf.range(shape[0])[:, tf.newaxis] * (shape[1] + 1)
        differences = tf.math.unsorted_segment_sum(differs, number, shape[0] * (shape[1] + 1))
        right = ends & (tf.gather(differences, number) == 0)
        sums = ((right, kind), (found_ends, found_kind), (ends, kind))
        return tf.stack(
            [
                tf.math.unsorted_segment_sum(tf.cast(which, tf.float64), of, len(self.types))
                for which, of in sums
            ]
        )


def _shifted(prefix, kind, steps):
    """Each token's neighbour before it (1) or after it (-1); outside at the edges."""
    edges = [[0, 0], [1, 0] if steps == 1 else [0, 1]]
    part = slice(None, -1) if steps == 1 else slice(1, None)
    shifted = tf.pad(prefix[:, part], edges, constant_values=OUTSIDE)
    return shifted, tf.pad(kind[:, part], edges, constant_values=-1)
