import entity_walk
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tfdist

BIO = ["O", *[f"{letter}-{type_}" for type_ in ("PER", "LOC", "ORG") for letter in "BI"]]
BMES = ["O", *[f"{letter}-{type_}" for type_ in ("PER", "LOC") for letter in "BMES"]]
SCHEMES = {
    "BIO": BIO,
    "BMES": BMES,
    "BIOES": [tag.replace("M-", "I-") for tag in BMES],
}


def measured(labels, predicted, tags=BIO, sample_weight=None, **options):
    """The metric of lists of tags, all of one length."""
    metric = tfdist.metrics.EntityF1Score(tags, **options)
    number = np.vectorize(tags.index)
    scores = np.eye(len(tags))[number(np.array(predicted))]
    metric.update_state(number(np.array(labels)), scores, sample_weight)
    return metric


def counts(metric):
    return metric.sums()["counts"].numpy().tolist()


# -- where entities begin and end -------------------------------------------------

# Tags, and the entities in them: first, last, type.
WALKS = [
    # The sentence that introduces the shared task: U.N. official Ekeus heads for Baghdad .
    ("I-ORG O I-PER O O I-LOC O", {(0, 0, "ORG"), (2, 2, "PER"), (5, 5, "LOC")}),
    ("B-PER I-PER I-PER", {(0, 2, "PER")}),
    # Two of one type side by side: B tells them apart.
    ("B-PER B-PER I-PER", {(0, 0, "PER"), (1, 2, "PER")}),
    ("I-PER I-PER B-PER", {(0, 1, "PER"), (2, 2, "PER")}),
    # Tags that no tagger should write.
    ("O I-PER I-PER O", {(1, 2, "PER")}),
    ("B-PER I-LOC I-LOC", {(0, 0, "PER"), (1, 2, "LOC")}),
    ("B-PER O I-PER", {(0, 0, "PER"), (2, 2, "PER")}),
    ("O O", set()),
]
BMES_WALKS = [
    ("B-PER M-PER E-PER O S-LOC", {(0, 2, "PER"), (4, 4, "LOC")}),
    ("S-PER S-PER B-PER E-PER", {(0, 0, "PER"), (1, 1, "PER"), (2, 3, "PER")}),
    # Tags that no tagger should write.
    ("M-PER M-PER O E-PER", {(0, 1, "PER"), (3, 3, "PER")}),
    ("B-PER E-PER M-PER E-PER E-PER", {(0, 1, "PER"), (2, 3, "PER"), (4, 4, "PER")}),
    ("B-PER S-PER M-PER", {(0, 0, "PER"), (1, 1, "PER"), (2, 2, "PER")}),
    ("B-PER E-LOC", {(0, 0, "PER"), (1, 1, "LOC")}),
    ("B-PER B-PER M-PER", {(0, 0, "PER"), (1, 2, "PER")}),
]


@pytest.mark.parametrize(
    "tags, exact, scheme",
    [(*one, "BIO") for one in WALKS] + [(*one, "BMES") for one in BMES_WALKS],
)
def test_where_entities_are(tags, exact, scheme):
    tags = tags.split()
    assert entity_walk.entities(tags) == exact
    labels = SCHEMES[scheme]
    metric = measured([tags], [tags], labels, scheme=scheme)
    support = [sum(one[2] == type_ for one in exact) for type_ in metric.per_class()]
    assert counts(metric) == [support] * 3
    # Another tagging with the same ends: only these are what is compared.
    for first, last, type_ in exact:
        shorter = tags[:first] + ["O"] * (last + 1 - first) + tags[last + 1 :]
        there = entity_walk.counts([tags], [shorter], metric.per_class())
        assert counts(measured([tags], [shorter], labels, scheme=scheme)) == there, type_


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from([*SCHEMES]))
def test_counts_are_those_of_a_walk_along_the_tokens(data, scheme):
    tags = SCHEMES[scheme]
    batch, time = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 12))
    numbers = hnp.arrays(np.int8, (batch, time), elements=st.integers(0, len(tags) - 1))
    labels, other = data.draw(numbers), data.draw(numbers)
    # Mostly alike, or entities of several tokens would never be right.
    differ = data.draw(hnp.arrays(np.int8, (batch, time), elements=st.integers(0, 4))) == 0
    labels, predicted = [np.array(tags)[one] for one in (labels, np.where(differ, other, labels))]
    weights = data.draw(hnp.arrays(np.int8, (batch, time), elements=st.integers(0, 4))) > 0
    metric = measured(labels, predicted, tags, weights, scheme=scheme)
    kept = [[row[keep] for row, keep in zip(one, weights)] for one in (labels, predicted)]
    types = list(dict.fromkeys(tag[2:] for tag in tags[1:]))
    assert counts(metric) == entity_walk.counts(*kept, types)


def test_all_that_one_has_to_be():
    labels = [["O", "B-PER", "I-PER", "O"]]
    for predicted, right in [
        ("O B-PER I-PER O", 1),
        ("O I-PER I-PER O", 1),  # another tag, the same entity
        ("O B-PER O O", 0),
        ("O B-PER I-PER I-PER", 0),
        ("B-PER I-PER I-PER O", 0),
        ("O B-LOC I-LOC O", 0),
        ("O B-PER B-PER O", 0),
    ]:
        assert counts(measured(labels, [predicted.split()]))[0] == [right, 0, 0]


def test_words_without_types():
    # Words of Chinese: the letters alone, and no O.
    labels, predicted = [["B", "E", "S", "B", "M", "E"]], [["B", "E", "B", "E", "B", "E"]]
    metric = measured(labels, predicted, [*"BMES"], scheme="BMES")
    assert metric.per_class()[""]["support"] == 3
    assert counts(metric) == [[1], [3], [3]]


# -- masks and weights ----------------------------------------------------------


def test_padding_is_not_there():
    labels = [["B-PER", "I-PER", "O", "I-PER"], ["O", "O", "B-LOC", "B-LOC"]]
    mask = [[1, 1, 0, 1], [0, 0, 1, 0]]
    metric = measured(labels, labels, sample_weight=mask)
    # B-PER I-PER I-PER, one entity; B-LOC.
    assert counts(metric) == [[1, 1, 0]] * 3


def test_labels_and_scores_of_padding_may_be_anything():
    metric = tfdist.metrics.EntityF1Score(BIO)
    scores = np.eye(7)[[[1, 2, 0]]]
    scores[0, 2] = np.nan
    metric.update_state([[1, 2, -100]], scores, [[1, 1, 0]])
    assert metric.result() == 1.0


def test_an_entity_weighs_what_its_first_token_does():
    labels = [["B-PER", "I-PER"], ["B-LOC", "B-LOC"]]
    assert counts(measured(labels, labels, sample_weight=[2.0, 0.5])) == [[2.0, 1.0, 0.0]] * 3
    weights = [[0.25, 3.0], [1.0, 2.0]]
    assert counts(measured(labels, labels, sample_weight=weights)) == [[0.25, 3.0, 0.0]] * 3


# -- results --------------------------------------------------------------------

LABELS = [["B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC"]]
PREDICTED = [["B-PER", "I-PER", "O", "B-LOC", "I-LOC", "B-PER"]]


@pytest.mark.parametrize(
    "average, precision, recall, f1",
    [
        ("micro", 1 / 3, 1 / 3, 1 / 3),
        ("macro", 1 / 4, 1 / 2, (2 / 3 + 0) / 2),
        ("weighted", (1 / 2 + 0) / 3, 1 / 3, (2 / 3 + 0) / 3),
    ],
)
def test_averages(average, precision, recall, f1):
    # PER: one right of two predicted, one there. LOC: none of one, two there. No ORG.
    metric = measured(LABELS, PREDICTED, average=average)
    assert float(metric.precision()) == pytest.approx(precision, abs=1e-12)
    assert float(metric.recall()) == pytest.approx(recall, abs=1e-12)
    assert float(metric.result()) == pytest.approx(f1, abs=1e-12)


def test_per_class():
    of_each = measured(LABELS, PREDICTED).per_class()
    assert of_each["PER"] == pytest.approx(
        {"precision": 0.5, "recall": 1.0, "f1_score": 2 / 3, "support": 1.0}
    )
    assert list(of_each) == ["PER", "LOC", "ORG"]
    assert of_each["ORG"] == dict.fromkeys(of_each["ORG"], 0.0)


def test_logits_and_one_hot_labels():
    metric = tfdist.metrics.EntityF1Score(BIO)
    metric.update_state(np.eye(7)[[[1, 2, 0]]], 9.0 * np.eye(7)[[[1, 2, 0]]] - 4.0)
    assert metric.result() == 1.0


def test_a_graph_of_any_batch_and_time():
    metric = tfdist.metrics.EntityF1Score(BIO)
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None, None, 7))]
    update = tf.function(metric.update_state, input_signature=signature)
    for shape in ((2, 5), (0, 5), (3, 1)):
        update(tf.ones(shape, tf.int32), tf.one_hot(tf.ones(shape, tf.int32), 7))
    assert counts(metric) == [[13.0, 0.0, 0.0]] * 3


# -- bad input ------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels, options, words",
    [
        (BIO, {"scheme": "IOB"}, "scheme is 'IOB'; expected one of BIO, BIOES, BMES"),
        (BIO, {"average": "binary"}, "average is 'binary'; expected one of micro"),
        (["O", "M-PER"], {}, "labels has 'M-PER', which is no tag of BIO"),
        (["O", "B-"], {}, "labels has 'B-', which is no tag"),
        (["O", "PER"], {}, "labels has 'PER', which is no tag"),
        (["O", "B-PER", "B-PER"], {}, "labels has B-PER twice"),
        (["O"], {}, "without an entity"),
        ([], {}, "without an entity"),
    ],
)
def test_bad_arguments(labels, options, words):
    with pytest.raises(ValueError, match=words):
        tfdist.metrics.EntityF1Score(labels, **options)


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 6), (2, 3, 4, 7)])
def test_bad_shapes(shape):
    metric = tfdist.metrics.EntityF1Score(BIO)
    with pytest.raises(ValueError, match=r"expected \(batch, time, 7\)"):
        metric.update_state(np.zeros(shape[:-1]), np.zeros(shape))


def test_bad_labels():
    metric = tfdist.metrics.EntityF1Score(BIO)
    metric.update_state([[0, 7, -1]], np.zeros((1, 3, 7)))
    with pytest.raises(ValueError, match="2 examples have labels that are none of 0 to 6"):
        metric.result()


def test_without_data():
    metric = tfdist.metrics.EntityF1Score(BIO)
    assert metric.result() == 0.0
    for read in (metric.precision, metric.recall, metric.per_class):
        with pytest.raises(ValueError, match="entity_f1_score has seen no data"):
            read()
