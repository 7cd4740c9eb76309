"""The entities of a sequence of tags, found token by token, and their scores.

The rules of the evaluation of CoNLL-2003 as tables: at which pairs of letters an entity ends
between two tokens of one type, and at which one begins. `tfdist.metrics.entities` has no
such tables.
"""

ENDS = {"BB", "BS", "BO", "IB", "IS", "IO", "MB", "MS", "MO"}
ENDS |= {last + any_ for last in "ES" for any_ in "BIMESO"}
BEGINS = {any_ + first for any_ in "BIMESO" for first in "BS"}
BEGINS |= {last + any_ for last in "ESO" for any_ in "IME"}


def entities(tags):
    """Set of `(first, last, type)` of a list of tags."""
    found, begin = set(), None
    previous = ("O", "")
    for place, tag in enumerate([*tags, "O"]):
        letter, _, type_ = tag.partition("-")
        now = (letter, type_)
        other_type = previous[1] != type_
        pair = previous[0] + letter
        if begin is not None and (pair in ENDS or other_type):
            found.add((begin, place - 1, previous[1]))
            begin = None
        if letter != "O" and (pair in BEGINS or other_type):
            begin = place
        previous = now
    return found


def counts(labels, predicted, types):
    """Lists by type of entities that are right, predicted and actual, over lists of tags."""
    right, guessed, actual = (dict.fromkeys(types, 0) for _ in range(3))
    for one, other in zip(labels, predicted):
        one, other = entities(one), entities(other)
        for among, kept in ((right, one & other), (guessed, other), (actual, one)):
            for *_, type_ in kept:
                among[type_] += 1
    return [[among[type_] for type_ in types] for among in (right, guessed, actual)]
