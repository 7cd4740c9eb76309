"""Against a walk from token to token, by the rules of CoNLL-2003's evaluation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfdist

TAGS = {
    "BIO": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "BMES": ["O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BMES")],
}


def walk(tags):
    """The set of `(begin, end, type)` of a sequence of tags."""
    entities, begin, kind = set(), None, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, _, here = tag.partition("-")
        if kind is not None and (
            prefix in ("O", "B", "S") or here != kind or tags[place - 1][0] in "ES"
        ):
            entities.add((begin, place - 1, kind))
            kind = None
        if prefix != "O" and kind is None:
            begin, kind = place, here
    return entities


def counted(gold, found):
    """Right, found and true entities by type, of sequences of tags."""
    counts = {}
    for number, (ours, theirs) in enumerate(zip(gold, found)):
        ours, theirs = ({(number, *one) for one in walk(tags)} for tags in (ours, theirs))
        for column, which in enumerate((ours & theirs, theirs, ours)):
            for one in which:
                counts.setdefault(one[-1], [0, 0, 0])[column] += 1
    return counts


def measured(scheme, gold, found, sample_weight=None, **options):
    metric = tfdist.metrics.EntityF1Score(TAGS[scheme], scheme, **options)
    ids = {tag: place for place, tag in enumerate(TAGS[scheme])}
    gold, found = (np.array([[ids[tag] for tag in row] for row in rows]) for rows in (gold, found))
    metric.update_state(gold, np.eye(len(ids))[found], sample_weight)
    return metric


def check(metric, counts):
    for column, kind in enumerate(metric.types):
        assert metric._counts.numpy()[:, column].tolist() == counts.get(kind, [0, 0, 0])


@pytest.mark.parametrize("scheme", TAGS)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_counts_are_those_of_the_walk(scheme, data):
    rows = data.draw(st.integers(1, 3))
    time = data.draw(st.integers(1, 9))
    row = st.lists(st.sampled_from(TAGS[scheme]), min_size=time, max_size=time)
    gold = data.draw(st.lists(row, min_size=rows, max_size=rows))
    # Often the same, so that entities are right.
    found = [
        [new if change else old for old, new, change in zip(line, other, changes)]
        for line, other, changes in zip(
            gold,
            data.draw(st.lists(row, min_size=rows, max_size=rows)),
            data.draw(
                st.lists(
                    st.lists(st.sampled_from([False, False, True]), min_size=time, max_size=time),
                    min_size=rows,
                    max_size=rows,
                )
            ),
        )
    ]
    check(measured(scheme, gold, found), counted(gold, found))


@pytest.mark.parametrize(
    "scheme, tags, entities",
    [
        ("BIO", "B-PER I-PER O I-LOC", {(0, 1, "PER"), (3, 3, "LOC")}),
        ("BIO", "B-PER B-PER I-LOC", {(0, 0, "PER"), (1, 1, "PER"), (2, 2, "LOC")}),
        ("BMES", "B-PER M-PER E-PER S-LOC", {(0, 2, "PER"), (3, 3, "LOC")}),
        ("BMES", "B-PER E-PER E-PER M-LOC", {(0, 1, "PER"), (2, 2, "PER"), (3, 3, "LOC")}),
    ],
)
def test_the_walk_itself(scheme, tags, entities):
    assert walk(tags.split()) == entities
    check(measured(scheme, [tags.split()], [tags.split()]), counted([tags.split()], [tags.split()]))


def test_averages():
    gold = [["B-PER", "O", "B-LOC", "I-LOC", "O", "B-LOC"]]
    found = [["B-PER", "O", "B-LOC", "O", "O", "B-LOC"]]
    # PER: 1 of 1. LOC: 1 right of 2 found and 2 true.
    expected = {"micro": 4 / 6, "macro": (1 + 1 / 2) / 2, "weighted": (1 + 2 * 1 / 2) / 3}
    for average, value in expected.items():
        metric = measured("BIO", gold, found, average=average)
        assert float(metric.result()) == pytest.approx(value)
    assert metric.per_class() == {"LOC": (0.5, 0.5, 0.5, 2.0), "PER": (1.0, 1.0, 1.0, 1.0)}


def test_padding_is_outside():
    gold = [["B-PER", "I-PER", "B-LOC", "I-LOC"]] * 2
    found = [["B-PER", "I-PER", "O", "O"], ["O", "O", "O", "O"]]
    mask = np.array([[1, 1, 0, 0], [0, 0, 0, 0]])
    assert measured("BIO", gold, found, mask).result() == 1.0
    first_alone = measured("BIO", gold, found, np.array([1, 0]))
    assert float(first_alone.result()) == pytest.approx(2 / 3)


def test_compiled_and_without_examples():
    tags = TAGS["BIO"]
    metric = tfdist.metrics.EntityF1Score(tags)
    update = tf.function(metric.update_state, jit_compile=True)
    update(np.array([[1, 2, 0, 3]]), np.eye(5)[[[1, 2, 0, 3]]])
    update(np.zeros((0, 4), int), np.zeros((0, 4, 5)))
    assert metric.result() == 1.0


def test_in_fit():
    tags = TAGS["BIO"]
    x = np.random.default_rng(0).integers(0, 5, (12, 6))
    model = keras.Sequential(
        [keras.Input((6, 5)), keras.layers.Dense(5, "softmax", kernel_initializer="identity")]
    )
    model.compile(
        keras.optimizers.SGD(0.0),
        "sparse_categorical_crossentropy",
        metrics=[tfdist.metrics.EntityF1Score(tags)],
    )
    shifted = np.where(x == 4, 0, x)
    history = model.fit(np.eye(5)[shifted], x, batch_size=5, verbose=0).history
    rows = [[[tags[one] for one in row] for row in some] for some in (x, shifted)]
    right, found, true = np.sum(list(counted(*rows).values()), 0)
    assert history["entity_f1_score"][0] == pytest.approx(2 * right / (found + true))


@pytest.mark.parametrize(
    "labels, options, words",
    [
        (["O", "X-PER"], {}, "labels hold 'X-PER'; of the scheme BIO are 'O', 'B-TYPE', 'I-TYPE'"),
        (["O", "B-PER", "I-PER"], {"scheme": "BMES"}, "labels hold 'I-PER'"),
        (["O"], {}, "none of them is a part of an entity"),
        (["O", "B-PER"], {"scheme": "IOB"}, "scheme is 'IOB'; expected one of BIO, BMES"),
        (["O", "B-PER"], {"average": "binary"}, "average is 'binary'; expected one of micro"),
    ],
)
def test_bad_arguments(labels, options, words):
    with pytest.raises(ValueError, match=words):
        tfdist.metrics.EntityF1Score(labels, **options)


def test_bad_batches():
    metric = tfdist.metrics.EntityF1Score(TAGS["BIO"])
    with pytest.raises(
        ValueError, match=r"y_pred has shape \(1, 4, 3\); expected \(batch, time, 5\)"
    ):
        metric.update_state(np.zeros((1, 4)), np.zeros((1, 4, 3)))
    with pytest.raises(ValueError, match=r"y_true must have shape \(1, 4\)"):
        metric.update_state(np.zeros((1, 3)), np.zeros((1, 4, 5)))
    metric.update_state(np.array([[0, 7]]), np.zeros((1, 2, 5)))
    with pytest.raises(ValueError, match="1 tokens have labels that are none of 0 to 4"):
        metric.result()


def test_serialisable():
    metric = tfdist.metrics.EntityF1Score(TAGS["BMES"], "BMES", "macro", name="mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
