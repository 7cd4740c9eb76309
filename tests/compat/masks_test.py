import keras
import numpy as np
import tensorflow as tf
from keras.src import backend
from upstream import require

from tfdist.compat import masks


def test_upstream():
    require(backend, "get_keras_mask")


def test_the_scores_of_a_model_have_its_mask():
    model = keras.Sequential([keras.layers.Embedding(3, 2, mask_zero=True), keras.layers.Dense(1)])
    x = np.array([[1, 2, 0], [1, 0, 0]])
    np.testing.assert_array_equal(masks.mask_of(model(x)), x != 0)
    assert masks.mask_of(tf.constant([1.0])) is None
    assert masks.mask_of(np.ones(1)) is None
