"""What `tfdist.metrics` says of Keras' own metrics."""

import devices
import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import tfdist

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 23)
SCORES = RANDOM.dirichlet(np.ones(3), 23).astype("float32")
HOT = np.eye(3, dtype="float32")[LABELS]
WEIGHTS = RANDOM.random(23).astype("float32")


def expected():
    top, squares = SCORES.argmax(1), (SCORES - HOT) ** 2
    of_all = {"sample_weight": WEIGHTS}
    return {
        "categorical_accuracy": sklearn_metrics.accuracy_score(LABELS, top, **of_all),
        "top_k_categorical_accuracy": sklearn_metrics.top_k_accuracy_score(
            LABELS, SCORES, k=2, **of_all
        ),
        "mean_squared_error": sklearn_metrics.mean_squared_error(HOT, SCORES, **of_all),
        "root_mean_squared_error": np.average(squares.mean(1), weights=WEIGHTS) ** 0.5,
        "mean_absolute_error": sklearn_metrics.mean_absolute_error(HOT, SCORES, **of_all),
        "categorical_crossentropy": sklearn_metrics.log_loss(HOT, SCORES, **of_all),
        "cosine_similarity": np.average(
            SCORES[np.arange(23), LABELS] / np.linalg.norm(SCORES, axis=1), weights=WEIGHTS
        ),
    }


@pytest.mark.parametrize("replicas", [1, 2])
def test_means_over_examples_are_right(replicas):
    strategy = tfdist.MirroredStrategy(devices.PAIR[:replicas])
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Identity()])
        own = [
            keras.metrics.CategoricalAccuracy(),
            keras.metrics.TopKCategoricalAccuracy(2),
            keras.metrics.MeanSquaredError(),
            keras.metrics.RootMeanSquaredError(),
            keras.metrics.MeanAbsoluteError(),
            keras.metrics.CategoricalCrossentropy(),
            keras.metrics.CosineSimilarity(),
        ]
        model.compile(loss="mse", weighted_metrics=own)
    options = {"sample_weight": WEIGHTS, "batch_size": 4, "return_dict": True, "verbose": 0}
    logs = model.evaluate(SCORES, HOT, **options)
    for name, value in expected().items():
        assert logs[name] == pytest.approx(value, abs=1e-6), name


def test_those_that_are_not():
    hot = np.eye(4)[LABELS]  # the last class never occurs
    scores = np.pad(SCORES, ((0, 0), (0, 1)))
    exact = sklearn_metrics.f1_score(LABELS, SCORES.argmax(1), average="macro")
    stock, mine = keras.metrics.F1Score("macro"), tfdist.metrics.F1Score()
    stock.update_state(hot, scores)
    mine.update_state(hot, scores)
    assert float(mine.result()) == pytest.approx(exact, abs=1e-12)
    assert float(stock.result()) == pytest.approx(exact * 3 / 4, abs=1e-6)

    stock, mine = keras.metrics.Precision(), tfdist.metrics.Precision(average="micro")
    stock.update_state(HOT, SCORES)
    mine.update_state(HOT, SCORES)
    assert float(mine.result()) == pytest.approx(np.mean(SCORES.argmax(1) == LABELS), abs=1e-12)
    assert abs(float(stock.result()) - float(mine.result())) > 0.02

    targets = (1000.0 + RANDOM.normal(size=(1000, 1))).astype("float32")
    guesses = targets + RANDOM.normal(size=(1000, 1)).astype("float32") / 2
    stock = keras.metrics.R2Score()
    for batch in range(0, 1000, 10):
        stock.update_state(targets[batch : batch + 10], guesses[batch : batch + 10])
    assert abs(float(stock.result()) - sklearn_metrics.r2_score(targets, guesses)) > 1e-3
