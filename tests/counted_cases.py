"""Metrics of counts and of probabilities, and what scikit-learn says; run by workers, too."""

import dataclasses
import warnings
from collections.abc import Callable

import entity_walk
import keras
import metric_cases
import numpy as np
import pytest
from sklearn import calibration
from sklearn import metrics as exact

import tfdist

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
TIME = 6


def tags():
    """Scores of tags `(examples, time, tags)`, labels and weights; some end in padding."""
    random = np.random.default_rng(3)
    shape = metric_cases.EXAMPLES, TIME
    labels = random.choice(5, shape, p=[0.4, 0.15, 0.2, 0.1, 0.15]).astype("int32")
    logits = random.normal(size=(*shape, 5)) + 3.0 * np.eye(5)[labels]
    length = random.integers(1, TIME + 1, metric_cases.EXAMPLES)
    there = np.arange(TIME) < length[:, None]
    logits[~there] = 0.0  # what the model's `Masking` masks
    return logits.astype("float32"), labels, there.astype("float32")


DATA = {**metric_cases.DATA, "tags": tags}
ACTIVATIONS = {**metric_cases.ACTIVATIONS, "tags": "softmax"}
LOSSES = {"binary": "binary_crossentropy", "multi_label": "binary_crossentropy"}


@dataclasses.dataclass
class Case:
    """A metric.

    Attributes:
        kind: of which data.
        make: returns the metric.
        exact: the result by scikit-learn, of labels, predictions and weights.
    """

    kind: str
    make: Callable
    exact: Callable


def decided(scores):
    return scores[:, 0] >= 0.5 if scores.shape[1] == 1 else scores.argmax(1)


def of_decisions(score, **options):
    def value(labels, scores, weights):
        return score(labels, decided(scores), sample_weight=weights, **options)

    return value


def of_labels(score, **options):
    def value(labels, scores, weights):
        return score(labels, scores >= 0.5, sample_weight=weights, **options)

    return value


def of_probabilities(labels, scores, weights):
    options = {} if scores.shape[1] == 1 else {"labels": [*range(scores.shape[1])]}
    scores = np.float64(scores)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 probabilities do not add up to 1
        return exact.brier_score_loss(labels, scores, sample_weight=weights, **options)


def of_bins(labels, scores, weights):
    """The mean gap, of a histogram: scikit-learn has it without weights only."""
    if scores.shape[1] == 1:
        confidence, right = scores[:, 0], labels
    else:
        confidence, right = scores.max(1), decided(scores) == labels
    ends = np.linspace(0.0, 1.0, 16)
    place = np.searchsorted(ends[1:-1], np.float64(confidence))
    gaps = np.bincount(place, weights * (right - np.float64(confidence)), 15)
    plain, _ = calibration.calibration_curve(right, confidence, n_bins=15)
    assert len(plain) == np.count_nonzero(np.bincount(place))
    return np.abs(gaps).sum() / weights.sum()


def of_walk(labels, scores, there):
    """By a walk along the tokens."""
    words = [
        [[TAGS[one] for one in row[: int(length)]] for row, length in zip(rows, there.sum(1))]
        for rows in (labels, scores.argmax(-1))
    ]
    right, predicted, actual = np.sum(entity_walk.counts(*words, ["PER", "LOC"]), axis=1)
    return 2.0 * right / (predicted + actual)


MULTI = {"multi_label": True}
OURS = tfdist.metrics
CASES = {
    "precision": Case("binary", OURS.Precision, of_decisions(exact.precision_score)),
    "recall": Case(
        "binary",
        lambda **k: OURS.Recall(average="macro", **k),
        of_decisions(exact.recall_score, average="macro"),
    ),
    "f1": Case("binary", OURS.F1Score, of_decisions(exact.f1_score)),
    "confusion": Case("binary", OURS.ConfusionMatrix, of_decisions(exact.accuracy_score)),
    "balanced": Case("binary", OURS.BalancedAccuracy, of_decisions(exact.balanced_accuracy_score)),
    "matthews": Case("binary", OURS.MatthewsCorrelation, of_decisions(exact.matthews_corrcoef)),
    "brier": Case("binary", OURS.BrierScore, of_probabilities),
    "calibration": Case("binary", OURS.ExpectedCalibrationError, of_bins),
    "precision_of_4": Case(
        "multi_class", OURS.Precision, of_decisions(exact.precision_score, average="macro")
    ),
    "recall_of_3": Case(
        "multi_class",
        lambda **k: OURS.Recall(class_id=3, **k),
        of_decisions(exact.recall_score, labels=[3], average="macro"),
    ),
    "f1_of_4": Case(
        "multi_class",
        lambda **k: OURS.F1Score(4, average="weighted", **k),
        of_decisions(exact.f1_score, average="weighted"),
    ),
    "confusion_of_4": Case("multi_class", OURS.ConfusionMatrix, of_decisions(exact.accuracy_score)),
    "balanced_of_4": Case(
        "multi_class", OURS.BalancedAccuracy, of_decisions(exact.balanced_accuracy_score)
    ),
    "matthews_of_4": Case(
        "multi_class", OURS.MatthewsCorrelation, of_decisions(exact.matthews_corrcoef)
    ),
    "brier_of_4": Case("multi_class", OURS.BrierScore, of_probabilities),
    "calibration_of_4": Case("multi_class", OURS.ExpectedCalibrationError, of_bins),
    "f1_of_labels": Case(
        "multi_label",
        lambda **k: OURS.F1Score(**MULTI, **k),
        of_labels(exact.f1_score, average="macro"),
    ),
    "recall_of_labels": Case(
        "multi_label",
        lambda **k: OURS.Recall(average="micro", **MULTI, **k),
        of_labels(exact.recall_score, average="micro"),
    ),
    "brier_of_labels": Case(
        "multi_label",
        lambda **k: OURS.BrierScore(**MULTI, **k),
        lambda labels, scores, weights: np.average(
            ((labels - np.float64(scores)) ** 2).mean(1), weights=weights
        ),
    ),
    "calibration_of_labels": Case(
        "multi_label",
        lambda **k: OURS.ExpectedCalibrationError(**MULTI, **k),
        lambda labels, scores, weights: of_bins(
            labels.reshape(-1), scores.reshape(-1, 1), np.repeat(weights, 3)
        ),
    ),
    "entities": Case("tags", lambda **k: OURS.EntityF1Score(TAGS, **k), of_walk),
}


def of_kind(kind):
    return {name: case for name, case in CASES.items() if case.kind == kind}


def model_of(kind, scope, **compile):
    """A model whose scores are those of `DATA[kind]`, and that does not learn."""
    logits = DATA[kind]()[0]
    # The tags' metric finds the padding by the model's mask, the others use sample_weight.
    argument = "metrics" if kind == "tags" else "weighted_metrics"
    with scope:
        metrics = [case.make(name=name) for name, case in of_kind(kind).items()]
        model = keras.Sequential(
            [
                keras.Input(logits.shape[1:]),
                *([keras.layers.Masking()] if kind == "tags" else []),
                keras.layers.Dense(logits.shape[-1], kernel_initializer="identity"),
                keras.layers.Activation(ACTIVATIONS[kind]),
            ]
        )
        loss = LOSSES.get(kind, "sparse_categorical_crossentropy")
        model.compile(keras.optimizers.SGD(0.0), loss, **{argument: metrics}, **compile)
    return model


def logs(kind, strategy, fit=True, **compile):
    """What `fit` (if it is asked to) and `evaluate` say, and what `predict` returns."""
    model = model_of(kind, strategy.scope(), **compile)
    x, y, weights = DATA[kind]()
    labels = y[:, None] if kind == "binary" else y
    options = {"batch_size": metric_cases.BATCH, "verbose": 0}
    weighted = options if kind == "tags" else {"sample_weight": weights, **options}
    found = {}
    if fit:
        history = model.fit(x, labels, epochs=2, shuffle=False, **weighted).history
        found["fit"] = {name: float(values[-1]) for name, values in history.items()}
    evaluated = model.evaluate(x, labels, return_dict=True, **weighted)
    found["evaluate"] = {name: float(value) for name, value in evaluated.items()}
    return {"logs": found, "predict": model.predict(x, **options)}


def check(kind, found):
    _, labels, weights = DATA[kind]()
    for name, case in of_kind(kind).items():
        value = case.exact(labels, found["predict"], np.float64(weights))
        # TensorFlow's float32 sigmoid differs in its last bit by the size of the batch, so
        # `evaluate` has not quite the probabilities that `predict` returns.
        tolerance = 1e-7 if name.startswith(("brier", "calibration")) else 1e-12
        for method, logs in found["logs"].items():
            assert logs[name] == pytest.approx(value, abs=tolerance), (name, method)


def run(kinds):
    """`logs` of some kinds on the strategy of this process."""
    strategy = tfdist.auto_strategy()
    return {kind: logs(kind, strategy) for kind in kinds}
