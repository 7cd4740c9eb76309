import numpy as np
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from tfdist.evaluation.curves import curves_of, thinned
from tfdist.evaluation.inputs import make_predictions


def test_binary_curves_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    y, w = rng.integers(0, 2, 100), rng.integers(1, 4, 100)
    p = np.round(rng.random(100), 1)
    curves = curves_of(make_predictions(y, p, w, class_names=["no", "yes"])[0])
    fpr, tpr, _ = sk.roc_curve(y, p, sample_weight=w)
    np.testing.assert_allclose(curves["roc"]["yes"]["fpr"], fpr)
    np.testing.assert_allclose(curves["roc"]["yes"]["tpr"], tpr)
    area = sk.auc(curves["roc"]["yes"]["fpr"], curves["roc"]["yes"]["tpr"])
    np.testing.assert_allclose(area, sk.roc_auc_score(y, p, sample_weight=w))
    assert list(curves["pr"]) == ["yes"]
    assert {len(values) for values in curves["pr"]["yes"].values()} == {
        len(curves["pr"]["yes"]["recall"])
    }


def test_the_calibration_curve_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 2, 500), rng.random(500)
    found = curves_of(make_predictions(y, p)[0])["calibration"]["1"]
    frequency, confidence = calibration_curve(y, p, n_bins=15)
    np.testing.assert_allclose(found["frequency"], frequency)
    np.testing.assert_allclose(found["confidence"], confidence)
    assert found["weight"].sum() == 500


def test_classes_without_examples_have_no_curve():
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
    curves = curves_of(make_predictions([0, 1], p)[0])
    assert list(curves["roc"]) == list(curves["pr"]) == ["0", "1"]
    assert list(curves["calibration"]) == ["top class"]
    only = curves_of(make_predictions([1, 1], np.array([0.2, 0.4]))[0])
    assert only["roc"] == {} and list(only["pr"]) == ["1"]


def test_thinned_curves_keep_their_ends():
    curve = {"a": np.arange(1000), "b": -np.arange(1000)}
    some = thinned(curve, points=50)
    assert len(some["a"]) == 50
    assert some["a"][0] == 0 and some["b"][-1] == -999
    assert thinned(curve, points=1000) is curve
