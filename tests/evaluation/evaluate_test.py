import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sk
from sklearn.exceptions import UndefinedMetricWarning

import tfdist

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("float32")
Y = (X[:, 0] + RNG.normal(size=60) > 0).astype(int)


def identity(x):
    return x


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(X, Y, epochs=3, verbose=0)
    return model


def evaluated(model, data, **kwargs):
    return tfdist.evaluate(model, data, **{"bootstrap": 0, **kwargs})


def expected_of(model):
    logits = model.predict(X, verbose=0)[:, 0]
    return sk.roc_auc_score(Y, logits), sk.accuracy_score(Y, logits >= 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: (X, Y),
        lambda: (X, Y[:, None]),
        lambda: tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(60).batch(7),
        lambda: [(X[:50], Y[:50]), (X[50:], Y[50:])],
    ],
    ids=["arrays", "column", "tf.data", "list"],
)
def test_a_keras_model_of_logits(model, make):
    report = evaluated(model, make())
    area, accuracy = expected_of(model)
    assert (report.task, report.n) == ("binary", 60)
    np.testing.assert_allclose(report.metrics["roc_auc"].value, area, rtol=1e-12)
    np.testing.assert_allclose(report.metrics["accuracy"].value, accuracy, rtol=1e-12)


def test_under_mirrored_replicas():
    keras.utils.set_random_seed(1)
    with tfdist.MirroredStrategy(devices.PAIR).scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
        model.compile("sgd", "binary_crossentropy")
    report = evaluated(model, (X, Y), batch_size=7)
    scores = model.predict(X, verbose=0)[:, 0]
    np.testing.assert_allclose(report.scores, scores, rtol=1e-6)


def test_weights_and_class_names():
    w = RNG.random(60)
    w[3] = 0
    scores = RNG.random(60)
    report = evaluated(identity, (scores, Y), sample_weight=w, class_names=["no", "yes"])
    assert report.n == 59
    expected = sk.f1_score(Y, scores >= 0.5, sample_weight=w)
    np.testing.assert_allclose(report.metrics["f1"].value, expected, rtol=1e-12)
    assert list(report.per_class) == ["no", "yes"]
    again = evaluated(identity, (scores, Y, w), class_names=["no", "yes"])
    assert again.to_json() == report.to_json()
    some = [(scores[:30], Y[:30], w[:30]), (scores[30:], Y[30:])]
    mixed = evaluated(identity, some)
    w = np.r_[w[:30], np.ones(30)]
    expected = sk.f1_score(Y, scores >= 0.5, sample_weight=w)
    np.testing.assert_allclose(mixed.metrics["f1"].value, expected, rtol=1e-12)


def test_slices_by_an_array_and_by_an_input_column():
    scores = RNG.random(60)
    country = np.array(["de", "fr", "de"] * 20)
    data = {"score": scores, "country": country}
    report = evaluated(
        lambda x: x["score"], (data, Y), slices={"given": country, "column": "country"}
    )
    assert report.slices["given"] == report.slices["column"]
    for value, found in report.slices["given"].items():
        here = country == value
        assert found["n"] == here.sum()
        expected = sk.f1_score(Y[here], scores[here] >= 0.5)
        np.testing.assert_allclose(found["metrics"]["f1"].value, expected, rtol=1e-12)


def test_the_same_seed_gives_the_same_intervals():
    scores = RNG.random(60)
    first, again, other = (
        tfdist.evaluate(identity, (scores, Y), bootstrap=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first.metrics == again.metrics != other.metrics
    for value, low, high in first.metrics.values():
        assert low <= high and np.isfinite(value)
    wide = tfdist.evaluate(identity, (scores, Y), bootstrap=50, seed=1, confidence=0.99)
    assert wide.metrics["f1"].low < first.metrics["f1"].low


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_one_class_only_is_one_warning(task):
    labels = {"binary": np.zeros(4, int), "multiclass": np.array([0, 2, 0, 2])}
    labels["multilabel"] = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 1, 0]])
    scores = np.full(4, 0.4) if task == "binary" else np.full((4, 3), 1 / 3)
    names = {
        "binary": "class '1'",
        "multiclass": "class '1'",
        "multilabel": "class '2', not '0'",
    }
    with pytest.warns(UndefinedMetricWarning) as caught:
        report = tfdist.evaluate(
            identity, (scores, labels[task]), task=task, bootstrap=20, slices={"s": [0, 0, 1, 1]}
        )
    assert len(caught) == 1
    assert f"no example of {names[task]}: ROC AUC is NaN" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert np.isnan(report.metrics["roc_auc"].value)
    assert "Note: The data hold no example" in str(report)
    assert '"value": null' in report.to_json()


def test_a_threshold_on_the_data_that_it_was_chosen_on():
    scores = RNG.random(60)
    validation = evaluated(identity, (scores, Y))
    chosen = tfdist.evaluation.best_threshold(validation)
    with pytest.warns(UserWarning, match="on the data that it was chosen on"):
        report = evaluated(identity, (scores, Y), threshold=chosen)
    assert report.threshold == chosen.value
    np.testing.assert_allclose(report.metrics["f1"].value, chosen.score)
    test = evaluated(identity, (scores[:40], Y[:40]), threshold=chosen)
    by_number = evaluated(identity, (scores[:40], Y[:40]), threshold=chosen.value)
    assert test.metrics == by_number.metrics


def test_many_classes_have_no_intervals_of_areas(monkeypatch):
    monkeypatch.setattr("tfdist.evaluation.bootstrap.AREA_LIMIT", 10)
    report = tfdist.evaluate(identity, (RNG.random(60), Y), bootstrap=20)
    assert np.isfinite(report.metrics["accuracy"]).all()
    assert np.isfinite(report.metrics["roc_auc"].value)
    assert np.isnan(report.metrics["roc_auc"].low)
    assert "The areas have no intervals" in report.notes[0]


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"task": "ranking"}, "task='ranking': expected one of"),
        ({"threshold": "high"}, "threshold='high': expected a number"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"confidence": 95}, "confidence=95: expected a number between 0 and 1"),
        ({"bootstrap": -1}, "bootstrap=-1: expected an int"),
        ({"bootstrap": 0.5}, r"bootstrap=0\.5"),
        ({"batch_size": 0}, "batch_size=0: expected an int of at least 1"),
        ({"slices": ["country"]}, "slices of type list"),
        ({"slices": {"s": [1]}}, r"slices\['s'\] has the shape \(1,\)"),
        ({"sample_weight": -np.ones(60)}, "sample_weight with the value -1"),
        ({"sample_weight": np.ones(7)}, r"sample_weight of shape \(7,\) for 60 examples"),
    ],
)
def test_what_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        evaluated(identity, (RNG.random(60), Y), **kwargs)


def test_scores_that_do_not_fit_the_examples():
    with pytest.raises(ValueError, match=r"scores of shape \(1,\) for 60 examples"):
        evaluated(lambda x: np.zeros(1), (X, Y), batch_size=64)
    batches = [(np.zeros((2, 3)), np.zeros(2)), (np.zeros((2, 4)), np.zeros(2))]
    with pytest.raises(ValueError, match="scores of different shapes"):
        evaluated(identity, batches)


def test_multiclass_has_no_threshold():
    scores = RNG.dirichlet(np.ones(3), 60)
    labels = np.arange(60) % 3
    assert evaluated(identity, (scores, labels)).threshold is None
    with pytest.raises(ValueError, match="where the highest score is the prediction"):
        evaluated(identity, (scores, labels), threshold=0.3)
