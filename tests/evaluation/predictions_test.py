import numpy as np

from tfdist.evaluation.inputs import make_predictions


def binary(**kwargs):
    return make_predictions([0, 1, 1], np.array([0.2, 0.5, 0.4]), **kwargs)[0]


def test_a_score_at_the_threshold_is_positive():
    np.testing.assert_array_equal(binary().predicted(0.5), [0, 1, 0])
    np.testing.assert_array_equal(binary().correct(0.5), [True, True, False])


def test_a_multilabel_example_is_right_if_all_its_labels_are():
    scores = np.array([[0.9, 0.1], [0.9, 0.9]])
    predictions, _ = make_predictions(np.array([[1, 0], [0, 1]]), scores, task="multilabel")
    np.testing.assert_array_equal(predictions.correct(0.5), [True, False])


def test_the_fingerprint_tells_data_apart():
    assert binary().fingerprint == binary().fingerprint
    assert binary().fingerprint != binary(weights=[1, 1, 2]).fingerprint


def test_a_subset_keeps_labels_scores_and_weights_together():
    part = binary(weights=[1, 2, 3]).subset(np.array([False, True, True]))
    np.testing.assert_array_equal(part.labels, [1, 1])
    np.testing.assert_array_equal(part.scores, [0.5, 0.4])
    np.testing.assert_array_equal(part.weights, [2, 3])
