"""Where the entities of tagged sequences begin and end, and which of them two taggings share.

A tag is outside of entities (`O`), or has a letter and an entity's type: `B-PER`. The rules are
those of the CoNLL-2003 evaluation, which make the best of sequences of tags that no tagger should
write: a tag goes on with the entity before it if it is of the same type, if its letter
goes on with one (`I`, `M`, `E`), and if the letter before does not end one (`E`, `S`).
Any other tag that is not outside begins an entity; an entity ends where the next tag does
not go on with it. So `I-PER` begins an entity after `O` or `B-LOC`.
"""

import numpy as np
import tensorflow as tf

SCHEMES = {"BIO": "BI", "BIOES": "BIES", "BMES": "BMES"}  # -> the letters besides O
_GOES_ON, _ENDS = "IME", "ES"


class Tags:
    """What tags mean.

    Args:
        labels: list of str; the tag of each class.
        scheme: str; one of `SCHEMES`.

    Attributes:
        types: list of str; the types of entities, in the order of `labels`.

    Raises:
        ValueError: a label is no tag of the scheme, or there twice.
    """

    def __init__(self, labels, scheme):
        if scheme not in SCHEMES:
            raise ValueError(f"scheme is {scheme!r}; expected one of {', '.join(SCHEMES)}.")
        if len(set(labels)) < len(labels):
            twice = sorted({label for label in labels if labels.count(label) > 1})
            raise ValueError(f"labels has {', '.join(twice)} twice. Give each class its own tag.")
        letters, types = zip(*[_parsed(label, scheme) for label in labels]) if labels else ((), ())
        self.types = list(dict.fromkeys(one for one in types if one is not None))
        if not self.types:
            raise ValueError(
                f"labels is {list(labels)!r}, without an entity. Expected the tag of each class, "
                f"such as {_example(scheme)}."
            )
        # By class; the last row is that of no token at all, which is outside.
        numbers = [-1 if one is None else self.types.index(one) for one in types]
        self._type = np.array([*numbers, -1], np.int32)
        self._goes_on = np.array([letter in _GOES_ON for letter in letters] + [False])
        self._ends = np.array([letter in _ENDS for letter in letters] + [False])

    @property
    def outside(self):
        """A number that means `O`, whether there is such a class or not."""
        return len(self._type) - 1

    def entities(self, tags):
        """The entities of int32 `tags` `(batch, time)`.

        Returns:
            Each `(batch, time)`: bool, whether an entity begins; bool, whether one ends with this
            token; int32, its type (-1: none).
        """
        type_ = tf.gather(self._type, tags)
        inside = type_ >= 0
        open_ = inside & ~tf.gather(self._ends, tags)
        same = _before(open_, False) & (_before(type_, -1) == type_)
        goes_on = inside & tf.gather(self._goes_on, tags) & same
        return inside & ~goes_on, inside & ~_after(goes_on, False), type_


def count(tags, labels, predicted, weights):
    """Counts of entities by type, float64 `(3, types)`, as in `counts`.

    An entity is right if both taggings have one of its first token, last token and type. It
    weighs what its first token weighs.

    Args:
        tags: `Tags`.
        labels: int32 `(batch, time)`; classes.
        predicted: int32 `(batch, time)`; classes.
        weights: float64 `(batch, time)`; a token of weight 0 is left out, as if not there.
    """
    # The other tokens move to the front of their row.
    here = weights > 0.0
    order = tf.argsort(tf.where(here, 0, 1), axis=1, stable=True)
    here, weights, labels, predicted = [
        tf.gather(one, order, batch_dims=1) for one in (here, weights, labels, predicted)
    ]
    begins, ends, of = tags.entities(tf.where(here, labels, tags.outside))
    begins_too, ends_too, of_too = tags.entities(tf.where(here, predicted, tags.outside))
    right = begins & begins_too & (of == of_too) & _end_together(ends, ends_too)

    def summed(which, type_):
        # Negative numbers are left out.
        places = tf.where(which, type_, -1)
        return tf.math.unsorted_segment_sum(weights, places, len(tags.types))

    return tf.stack([summed(right, of), summed(begins_too, of_too), summed(begins, of)])


def _end_together(ends, ends_too):
    """Whether the next end from each token on is of both; bool `(batch, time)`."""
    any_end = ends | ends_too
    time = tf.shape(ends)[1]
    # Ends are numbered over the batch; each row has one more place, for no end at all.
    rows = tf.range(tf.shape(ends)[0])[:, tf.newaxis] * (time + 1)
    number = rows + tf.cumsum(tf.cast(any_end, tf.int32), axis=1, exclusive=True)
    both = tf.math.unsorted_segment_sum(
        tf.reshape(tf.cast(ends & ends_too, tf.int32), (-1,)),
        tf.reshape(number, (-1,)),
        tf.shape(ends)[0] * (time + 1),
    )
    return tf.gather(both, number) > 0


def _before(values, first):
    """`values` `(batch, time)`, each a token later."""
    return tf.pad(values[:, :-1], [[0, 0], [1, 0]], constant_values=first)


def _after(values, last):
    """`values` `(batch, time)`, each a token earlier."""
    return tf.pad(values[:, 1:], [[0, 0], [0, 1]], constant_values=last)


def _parsed(label, scheme):
    """The letter and the type of a tag; None and None if it is outside."""
    if label == "O":
        return "O", None
    letter, dash, type_ = label.partition("-")
    if letter not in [*SCHEMES[scheme]] or (dash and not type_):
        raise ValueError(
            f"labels has {label!r}, which is no tag of {scheme}. Expected the tag of each class, "
            f"such as {_example(scheme)}."
        )
    return letter, type_


def _example(scheme):
    return ["O", *[f"{letter}-PER" for letter in SCHEMES[scheme]]]
