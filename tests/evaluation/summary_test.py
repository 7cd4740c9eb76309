import numpy as np
import pytest
from sklearn import metrics as sk

from tfdist.evaluation.inputs import make_predictions
from tfdist.evaluation.summary import confusion_matrix


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_confusion_matrices_are_those_of_scikit_learn(task):
    rng = np.random.default_rng(0)
    w = rng.integers(1, 4, 50)
    if task == "binary":
        y, p = rng.integers(0, 2, 50), rng.random(50)
    elif task == "multiclass":
        y, p = rng.integers(0, 3, 50), rng.dirichlet(np.ones(4), 50)  # class 3 never occurs
    else:
        y, p = rng.integers(0, 2, (50, 3)), rng.random((50, 3))
    predictions, _ = make_predictions(y, p, w, task=task)
    q = p.argmax(axis=1) if task == "multiclass" else (p >= 0.4).astype(int)
    if task == "multilabel":
        expected = sk.multilabel_confusion_matrix(y, q, sample_weight=w)
    else:
        labels = range(4 if task == "multiclass" else 2)
        expected = sk.confusion_matrix(y, q, labels=labels, sample_weight=w)
    np.testing.assert_array_equal(confusion_matrix(predictions, 0.4), expected)
