"""What a metric does with bad input, by one of them."""

import keras
import numpy as np
import pytest

import tfdist

NAN = float("nan")


def measured(y_true, y_pred, sample_weight=None, **options):
    metric = tfdist.metrics.ROCAUC(**options)
    metric.update_state(y_true, y_pred, sample_weight)
    return metric


def test_nan_scores_make_the_result_nan():
    assert np.isnan(measured([0, 1, 1], [0.1, NAN, 0.7]).result())


def test_nan_scores_without_weight_are_padding():
    assert measured([0, 1, 1], [0.1, NAN, 0.7], [1, 0, 1]).result() == 1.0


@pytest.mark.parametrize("sample_weight", [None, np.full((2, 3), 2.0)], ids=["plain", "weighted"])
def test_what_the_model_masks_has_no_weight(sample_weight):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Embedding(4, 1, "identity", mask_zero=True),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    model.compile("sgd", "mse", weighted_metrics=[tfdist.metrics.ROCAUC()])
    x, y = np.array([[3, 2, 0], [1, 0, 0]]), np.array([[1, 1, 0], [0, 1, 0]])
    model.layers[0].set_weights([np.arange(4.0)[:, None]])
    model.layers[1].set_weights([np.ones((1, 1)), np.zeros(1)])
    logs = model.evaluate(x, y[..., None], sample_weight=sample_weight, return_dict=True, verbose=0)
    assert logs["roc_auc"] == 1.0  # of all tokens: 7/9


@pytest.mark.parametrize(
    "labels, scores, options, words",
    [
        ([0, 2, 1], [0.1, 0.2, 0.3], {}, "1 examples have labels that are none of 0 to 1"),
        ([0, 0.5, 1], [0.1, 0.2, 0.3], {}, "1 examples have labels"),
        ([0, -1, 3], np.eye(3), {}, "2 examples have labels that are none of 0 to 2"),
        ([[1, 1], [0, 1]], np.eye(2), {}, "1 examples have labels"),
        ([[2, 1], [0, 1]], np.eye(2), {"multi_label": True}, "1 examples have labels"),
        ([0, 1, 1], [0.1, 1.5, -2.0], {}, "2 examples have scores outside of 0 to 1.*from_logits"),
    ],
)
def test_bad_values_raise_when_the_result_is_read(labels, scores, options, words):
    metric = measured(labels, scores, **options)
    with pytest.raises(ValueError, match=words):
        metric.result()
    metric.reset_state()
    metric.result()


def test_a_negative_weight_raises():
    with pytest.raises(ValueError, match="1 examples have a negative sample_weight"):
        measured([0, 1], [0.1, 0.2], [1.0, -1.0]).result()


def test_fit_raises_at_the_end_of_the_epoch():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "mse", metrics=[tfdist.metrics.ROCAUC()])
    with pytest.raises(ValueError, match="4 examples have labels that are none of 0 to 1"):
        model.fit(np.ones((8, 1)), np.array([0, 1, 2, 3] * 2), verbose=0)


@pytest.mark.parametrize(
    "labels, scores, weights, words",
    [
        ([0, 1], [0.1, 0.2, 0.3], None, r"y_true has shape \(2, 1\) and y_pred \(3, 1\)"),
        ([[0, 1, 1]], np.ones((1, 2)), None, r"y_true must have shape \(1,\) with classes from 0"),
        ([0, 1], [0.1, 0.2], [1.0, 1.0, 1.0], r"sample_weight has shape \(3,\)"),
        ([0, 1], [0.1, 0.2], np.ones((2, 1, 1)), r"sample_weight has shape \(2, 1, 1\)"),
        ([0], 0.5, None, r"y_pred has shape \(\)"),
    ],
)
def test_shapes_that_do_not_match(labels, scores, weights, words):
    with pytest.raises(ValueError, match=words):
        measured(labels, scores, weights)


def test_multi_label_wants_multi_hot_rows():
    with pytest.raises(ValueError, match=r"y_true must have shape \(2, 3\) with zeros and ones"):
        measured([0, 1], np.ones((2, 3)), multi_label=True)


def test_other_columns_than_before():
    metric = measured([0, 1], [0.1, 0.2], num_classes=1)
    with pytest.raises(ValueError, match="y_pred has 2 columns; expected 1"):
        metric.update_state([0, 1], np.eye(2))


def test_reading_sums_without_data():
    with pytest.raises(ValueError, match="has seen no data"):
        tfdist.metrics.ROCAUC().sums()
