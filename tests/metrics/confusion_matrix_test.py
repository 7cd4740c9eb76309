import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix

import tfdist

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.random(300)
LABELS, LOGITS = RANDOM.integers(0, 4, 300), RANDOM.normal(size=(300, 4))


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_scikit_learns(weights, normalize):
    metric = tfdist.metrics.ConfusionMatrix(from_logits=True)
    for part in (slice(0, 7), slice(7, 7), slice(7, None)):
        metric.update_state(
            LABELS[part], LOGITS[part], weights if weights is None else weights[part]
        )
    predicted = LOGITS.argmax(1)
    exact = confusion_matrix(LABELS, predicted, sample_weight=weights, normalize=normalize)
    found = metric.matrix(normalize)
    if weights is None and normalize is None:
        np.testing.assert_array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=1e-12)
    accuracy = accuracy_score(LABELS, predicted, sample_weight=weights)
    assert float(metric.result()) == pytest.approx(accuracy, abs=1e-12)


def test_two_classes_in_one_column():
    metric = tfdist.metrics.ConfusionMatrix(threshold=0.25)
    metric.update_state([[0], [1], [1]], [[0.3], [0.3], [0.2]])
    np.testing.assert_array_equal(metric.matrix(), [[0, 1], [1, 1]])


def test_bad_calls():
    with pytest.raises(ValueError, match="has seen no data"):
        tfdist.metrics.ConfusionMatrix().matrix()
    with pytest.raises(ValueError, match="normalize is 'rows'; expected None, 'true'"):
        tfdist.metrics.ConfusionMatrix(num_classes=3).matrix("rows")


def test_serialisable():
    metric = tfdist.metrics.ConfusionMatrix(num_classes=3, threshold=0.4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
