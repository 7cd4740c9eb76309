import json

import numpy as np
import pytest

import tfdist


def two_classes(**kwargs):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    p = np.clip(rng.normal(0.4 + 0.2 * y, 0.2), 0, 1)
    kwargs = {"bootstrap": 20, "class_names": ["ham", "spam"], **kwargs}
    return tfdist.evaluate(lambda x: x, (p, y), **kwargs)


@pytest.fixture(scope="module")
def report():
    return two_classes(slices={"country": np.array(["de", "fr"] * 40)})


def test_its_text(report):
    lines = str(report).splitlines()
    assert lines[0] == "<lambda>: binary, 80 examples, threshold 0.5"
    assert lines[2].split() == ["metric", "value", "95%", "interval"]
    accuracy = next(line for line in lines if line.startswith("accuracy"))
    value, low, high = report.metrics["accuracy"]
    assert accuracy.split() == ["accuracy", f"{value:.4f}", f"{low:.4f}", "to", f"{high:.4f}"]
    assert any(line.split() == ["class", "precision", "recall", "f1", "support"] for line in lines)
    assert any(line.startswith("true \\ predicted") for line in lines)
    assert any(line.split()[:2] == ["country", "n"] for line in lines)
    assert repr(report) == f"<EvaluationReport of {lines[0]}>"
    assert "interval" not in str(two_classes(bootstrap=0))


def test_the_confusion_matrix_and_the_classes_belong_together(report):
    matrix = report.confusion_matrix
    assert matrix.sum() == report.n == 80
    for number, name in enumerate(report.class_names):
        row = report.per_class[name]
        assert row["support"] == matrix[number].sum()
        assert row["recall"] == matrix[number, number] / matrix[number].sum()
        assert row["precision"] == matrix[number, number] / matrix[:, number].sum()


def test_multilabel_matrices():
    labels = np.array([[1, 0], [0, 1], [1, 1]])
    scores = np.array([[0.8, 0.8], [0.1, 0.8], [0.1, 0.1]])
    report = tfdist.evaluate(
        lambda x: x, (scores, labels), task="multilabel", bootstrap=0, sample_weight=[1, 1, 2]
    )
    np.testing.assert_array_equal(report.confusion_matrix, [[[1, 0], [2, 1]], [[0, 1], [2, 1]]])
    assert list(report.per_class) == ["0", "1"]


def test_json(report, tmp_path):
    loaded = json.loads(report.to_json(tmp_path / "report.json"))
    assert loaded == report.to_dict()
    assert loaded == json.loads((tmp_path / "report.json").read_text())
    assert loaded["metrics"]["f1"] == report.metrics["f1"].to_dict()
    assert loaded["slices"]["country"]["de"]["n"] == 40
    assert loaded["curves"]["roc"]["spam"]["thresholds"][0] is None  # infinity
    assert (loaded["task"], loaded["examples"]) == ("binary", 80)


def test_curves_in_json_are_thinned():
    rng = np.random.default_rng(0)
    data = (rng.random(5000), rng.integers(0, 2, 5000))
    report = tfdist.evaluate(lambda x: x, data, bootstrap=0)
    assert len(report.curves["pr"]["1"]["recall"]) > 1000
    assert len(report.to_dict()["curves"]["pr"]["1"]["recall"]) == 200


def test_labels_and_scores_are_kept(report):
    assert report.labels.shape == report.scores.shape == report.weights.shape == (80,)


def test_in_a_notebook(report):
    shown = report._repr_html_()
    assert "&lt;lambda&gt;: binary" in shown
    assert shown.count("<table>") == 3
