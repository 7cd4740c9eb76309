import subprocess
import sys

import keras
import numpy as np
import pytest
import slowness
from scipy import special
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from tfdist.evaluation.temperature import TemperatureScaling, fit_temperature


def too_sure(classes, n=400, factor=3.0, seed=0):
    """Logits whose probabilities are right once they are divided by `factor`."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes))
    shares = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((n, 1)) > shares[:, :-1]).sum(axis=1)
    return factor * logits, labels


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier whose decision function is its input."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x):
        return x

    def predict(self, x):
        return self.classes_[x.argmax(axis=1)]


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear to accept")
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_temperature_of_scikit_learn(weighted):
    logits, labels = too_sure(4)
    weights = np.random.default_rng(1).random(400) if weighted else None
    estimator = FrozenEstimator(Logits().fit(logits, labels))
    theirs = CalibratedClassifierCV(estimator, method="temperature", ensemble=False)
    theirs.fit(logits, labels, sample_weight=weights)
    temperature = fit_temperature(logits, labels, weights)
    np.testing.assert_allclose(
        special.softmax(logits / temperature, axis=1), theirs.predict_proba(logits), atol=1e-5
    )
    assert 2 < temperature < 4


def loss_of(logits, labels, temperature, weights=None):
    logs = special.log_softmax(logits / temperature, axis=1)
    return -np.average(logs[np.arange(len(labels)), labels], weights=weights)


@pytest.mark.parametrize("classes", [2, 5])
def test_no_temperature_of_a_grid_is_better(classes):
    logits, labels = too_sure(classes, seed=classes)
    found = fit_temperature(logits, labels)
    least = loss_of(logits, labels, found)
    assert all(loss_of(logits, labels, t) >= least for t in np.geomspace(0.1, 100, 400))
    assert loss_of(logits, labels, 1.0) > least


def test_forms_of_logits_and_labels():
    logits, labels = too_sure(2)
    expected = fit_temperature(logits, labels)
    one = logits[:, 1] - logits[:, 0]
    for form in (one, one[:, None]):
        assert fit_temperature(form, labels[:, None]) == pytest.approx(expected, rel=1e-9)
    assert fit_temperature(logits, np.eye(2)[labels]) == pytest.approx(expected, rel=1e-9)
    logs = special.log_softmax(logits, axis=1)
    assert fit_temperature(logs, labels) == pytest.approx(expected, rel=1e-9)


def test_a_weight_of_two_is_an_example_twice():
    logits, labels = too_sure(3, n=50)
    weights = np.where(np.arange(50) < 20, 2, 1)
    twice = np.repeat(np.arange(50), weights)
    found = fit_temperature(logits, labels, weights)
    assert found == pytest.approx(fit_temperature(logits[twice], labels[twice]), rel=1e-9)


@pytest.mark.parametrize(
    "logits, labels, weights, words",
    [
        (np.eye(3), [0, 1, 2], None, "every example's own class has the highest logit"),
        (np.eye(2), [1, 0], None, "no better than a guess"),
        (np.eye(3), [0, 1], None, r"2 labels from 0 to 1 for logits of shape \(3, 3\)"),
        (np.eye(3), [0, 1, 3], None, "expected 3 class numbers from 0 to 2"),
        (np.eye(3), [0, 1, 0.5], None, "expected 3 class numbers"),
        (np.eye(3), np.eye(3) / 2, None, "or one-hot rows"),
        (np.eye(3), np.eye(3)[:2], None, "or one-hot rows"),
        (np.full((2, 2), np.nan), [0, 1], None, "NaN or infinite"),
        (np.zeros((0, 3)), [], None, r"logits of shape \(0, 3\)"),
        (np.zeros((2, 3, 4)), [0, 1], None, r"logits of shape \(2, 3, 4\)"),
        (np.eye(2), [0, 1], [1], "sample_weight of 1 values for 2 examples"),
        (np.eye(2), [0, 1], [1, -1], "at least 0"),
    ],
)
def test_what_is_refused(logits, labels, weights, words):
    with pytest.raises(ValueError, match=words):
        fit_temperature(logits, labels, weights)


def test_the_layer_calibrates_a_model(tmp_path):
    logits, labels = too_sure(3)
    temperature = fit_temperature(logits, labels)
    model = keras.Sequential(
        [keras.Input((3,)), TemperatureScaling(temperature), keras.layers.Softmax()]
    )
    expected = special.softmax(logits / temperature, axis=1)
    np.testing.assert_allclose(model.predict(logits, verbose=0), expected, atol=1e-5)
    # A round trip in a fresh process, which knows tfdist's layers once it imports them.
    path = tmp_path / "calibrated.keras"
    model.save(path)
    np.save(tmp_path / "logits.npy", logits[:5])
    program = (
        "import sys, keras, numpy as np\n"
        "from tfdist.evaluation import TemperatureScaling\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict(np.load(sys.argv[2]), verbose=0))\n"
    )
    paths = [path, tmp_path / "logits.npy", tmp_path / "scores.npy"]
    subprocess.run(
        [sys.executable, "-c", program, *map(str, paths)], check=True, timeout=slowness.seconds(120)
    )
    np.testing.assert_allclose(np.load(paths[2]), expected[:5], atol=1e-5)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), "2", True, None])
def test_a_temperature_must_be_above_0(temperature):
    with pytest.raises(ValueError, match="expected a finite number above 0"):
        TemperatureScaling(temperature)
