import keras
import numpy as np
import pytest
from scipy import special

from tfdist.evaluation.inputs import make_predictions

SOFT = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.3, 0.4, 0.3]])
ONE_HOT = np.eye(3)[[0, 1, 2, 1]]
MULTI_HOT = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]])


def made(labels, scores, **kwargs):
    return make_predictions(np.asarray(labels), np.asarray(scores), **kwargs)[0]


@pytest.mark.parametrize(
    "labels, scores, task",
    [
        ([0, 1, 1, 0], [0.1, 0.8, 0.6, 0.2], "binary"),
        ([[0], [1], [1], [0]], [[0.1], [0.8], [0.6], [0.2]], "binary"),
        ([True, False], [0.1, 0.8], "binary"),
        ([0, 1, 2, 1], SOFT, "multiclass"),
        ([[0], [1], [2], [1]], SOFT, "multiclass"),
        (ONE_HOT, SOFT, "multiclass"),
        (MULTI_HOT, SOFT, "multilabel"),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], "multiclass"),
    ],
)
def test_the_task_is_seen_in_the_shapes(labels, scores, task):
    predictions = made(labels, scores)
    assert predictions.task == task
    assert predictions.labels.shape == (
        np.shape(scores) if task == "multilabel" else (len(labels),)
    )


def test_one_hot_labels_with_independent_scores_are_ambiguous():
    scores = np.where(ONE_HOT, 0.9, 0.4)
    with pytest.raises(ValueError, match='pass task="multiclass" or task="multilabel"'):
        made(ONE_HOT, scores)
    assert made(ONE_HOT, scores, task="multilabel").task == "multilabel"
    assert made(ONE_HOT, scores, loss="binary_crossentropy").task == "multilabel"
    loss = keras.losses.CategoricalCrossentropy()
    assert made(ONE_HOT, scores, loss=loss).task == "multiclass"


def test_two_columns_may_be_a_binary_task():
    scores = np.array([[0.9, 0.1], [0.3, 0.7]])
    predictions = made([0, 1], scores, task="binary")
    np.testing.assert_array_equal(predictions.scores, [0.1, 0.7])
    np.testing.assert_array_equal(made(np.eye(2), scores, task="binary").labels, [0, 1])
    logits = np.array([[2.0, 1.0], [0.0, 3.0]])
    predictions = made([0, 1], logits, task="binary", from_logits=True)
    np.testing.assert_allclose(predictions.scores, special.softmax(logits, axis=1)[:, 1])


@pytest.mark.parametrize(
    "loss, expected",
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), True),
        (keras.losses.BinaryCrossentropy(), False),
        ([keras.losses.BinaryCrossentropy(from_logits=True)], True),
    ],
)
def test_logits_by_the_compiled_loss(loss, expected):
    predictions = made([0, 1], [0.25, 0.75], loss=loss)
    want = special.expit([0.25, 0.75]) if expected else [0.25, 0.75]
    np.testing.assert_allclose(predictions.scores, want)
    np.testing.assert_array_equal(
        made([0, 1], [0.25, 0.75], loss=loss, from_logits=False).scores, [0.25, 0.75]
    )


@pytest.mark.parametrize("loss", [None, "binary_crossentropy", "mse", {"a": "mse", "b": "mse"}])
def test_scores_that_are_no_probabilities(loss):
    with pytest.raises(
        ValueError, match=r"between -2 and 3, outside of \[0, 1\].*from_logits=True"
    ):
        made([0, 1], [-2.0, 3.0], loss=loss)


def test_rows_that_do_not_sum_to_one():
    scores = SOFT * 0.5
    with pytest.raises(ValueError, match=r"sum to between 0\.5 and 0\.5, not to 1"):
        made([0, 1, 2, 1], scores)
    np.testing.assert_allclose(made([0, 1, 2, 1], scores, from_logits=False).scores, SOFT)
    np.testing.assert_allclose(made([0, 1, 2, 1], scores, is_quantized=True).scores, SOFT)
    with pytest.raises(ValueError, match="Example 0 has the score 0 for every class"):
        made([0, 1], np.zeros((2, 3)), from_logits=False)


def test_rounding_errors_of_a_softmax_stay():
    scores = SOFT.astype("float32")
    np.testing.assert_array_equal(made([0, 1, 2, 1], scores).scores, scores.astype("float64"))


def test_examples_without_weight_are_left_out():
    predictions, kept = make_predictions([0, 1, 1], np.array([0.1, 0.2, 0.3]), [1, 0, 2])
    np.testing.assert_array_equal(kept, [True, False, True])
    np.testing.assert_array_equal(predictions.scores, [0.1, 0.3])
    np.testing.assert_array_equal(predictions.weights, [1, 2])


@pytest.mark.parametrize(
    "labels, scores, kwargs, words",
    [
        ([0, 1], [0.1, np.nan], {}, "NaN or infinite scores for 1 of 2 examples, first for exam"),
        ([0, 1], [np.inf, 0.1], {"from_logits": True}, "first for example 0"),
        ([0, 3], SOFT[:2], {}, "labels from 0 to 3; expected 0 to 2"),
        ([0, -1], SOFT[:2], {}, "labels from -1 to 0"),
        ([-1, 1], [0.1, 0.2], {}, "Map -1 and 1 to 0 and 1"),
        ([0, 2], [0.1, 0.2], {}, "labels from 0 to 2; expected 0 to 1"),
        ([0.5, 1], [0.1, 0.2], {}, "1 labels that are no whole numbers, such as 0.5"),
        ([np.nan, 1], [0.1, 0.2], {}, "such as nan"),
        ([1e30, 1], [0.1, 0.2], {}, "no whole numbers"),
        (["a", "b"], [0.1, 0.2], {}, "expected numbers.*pass the names as class_names"),
        ([0, 1, 1], [0.1, 0.2], {}, r"scores of shape \(2,\) for 3 labels"),
        ([0, 1], np.zeros((2, 5, 3)), {}, "Flatten sequences"),
        (np.zeros((2, 2, 2)), [0.1, 0.2], {}, r"labels of shape \(2, 2, 2\)"),
        (ONE_HOT, np.full((4, 2), 0.5), {"task": "multiclass"}, r"expected scores of shape .*3\)"),
        (MULTI_HOT, np.full((4, 2), 0.5), {}, r"expected scores of shape \(examples, 3\)"),
        ([0, 1], [0.1, 0.2], {"task": "multiclass"}, "at least 2 classes"),
        ([0, 1], SOFT[:2], {"task": "binary"}, r"or \(examples, 2\), with labels of 0 and 1"),
        (MULTI_HOT, SOFT, {"task": "multiclass"}, "example 0 has 2 labels that are 1"),
        (2 * MULTI_HOT, SOFT, {"task": "multilabel"}, "with the value 2; expected 0 and 1"),
        ([0, 1], [0.1, 0.2], {"task": "regression"}, "task='regression': expected one of"),
        ([0, 1], [0.1, 0.2], {"weights": [1]}, "1 weights for 2 examples"),
        ([0, 1], [0.1, 0.2], {"weights": [1, -2]}, "sample_weight with the value -2"),
        ([0, 1], [0.1, 0.2], {"weights": [1, np.nan]}, "sample_weight with the value nan"),
        ([0, 1], [0.1, 0.2], {"weights": [0, 0]}, "All weights are 0"),
        ([0, 1], [0.1, 0.2], {"class_names": ["a"]}, "1 class_names, 1 of them different; expect"),
        ([0, 1], [0.1, 0.2], {"class_names": ["a", "a"]}, "1 of them different"),
    ],
)
def test_what_is_refused(labels, scores, kwargs, words):
    with pytest.raises(ValueError, match=words):
        made(labels, scores, **kwargs)
