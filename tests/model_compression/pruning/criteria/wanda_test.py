"""Wanda: sizes times norms of inputs, beside those of the same output."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from gradient_pruning_cases import WAYS, X, build, fit
from keras import layers

from tfdist import model_compression as compression

RNG = np.random.default_rng(7)


def wanda(matrix, norms, part):
    """Bool like `matrix`, `(inputs, outputs)`: of each output the smallest go."""
    score = np.abs(matrix) * norms
    kept = np.ones(matrix.shape, bool)
    for column in range(matrix.shape[1]):
        kept[np.argsort(score[:, column])[: round(part * len(matrix))], column] = False
    return kept


@pytest.mark.parametrize("where", WAYS)
def test_masks_are_numpys(where):
    model = build(where)
    kernel = model.get_weights()[0]
    x = X * np.array([0.01, 1, 5, 0.1, 2, 1])
    schedule = compression.Constant(final=0.5)
    pruning = compression.prune(model, compression.Wanda(x), schedule=schedule)
    fit(model, pruning, epochs=1)
    expected = wanda(kernel, np.linalg.norm(x, axis=0)[:, None], 0.5)
    np.testing.assert_array_equal(model.get_weights()[0] != 0, expected)
    assert not np.array_equal(expected, wanda(kernel, 1.0, 0.5))


def test_what_a_convolution_multiplies_with():
    """The norms are of the inputs at all places where the window looks, padded ones too."""
    model = keras.Sequential(
        [
            keras.Input((5, 6, 2)),
            layers.Conv2D(3, (2, 3), strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    x = RNG.normal(size=(4, 5, 6, 2))
    kernel = model.layers[0].kernel.numpy()
    patches = tf.image.extract_patches(x, [1, 2, 3, 1], [1, 2, 2, 1], [1] * 4, "SAME").numpy()
    norms = np.sqrt((patches.reshape(-1, 12) ** 2).sum(0))
    data = tf.data.Dataset.from_tensor_slices((x, np.zeros(4))).batch(3)
    pruning = compression.prune(
        model, compression.Wanda(data), schedule=compression.Constant(0.5), filters="conv"
    )
    model.fit(x, np.zeros((4, 2)), verbose=0, callbacks=[pruning])
    expected = wanda(kernel.reshape(12, 3), norms[:, None], 0.5)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy().reshape(12, 3) != 0, expected)


def test_what_it_cannot_see_is_skipped_with_the_reason():
    class Own(layers.Dense):
        def call(self, x):
            return super().call(x) ** 2

    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 6)),
            Own(6),
            layers.LSTM(3),
            layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse")
    pruning = compression.prune(
        model,
        compression.Wanda(RNG.normal(size=(4, 5, 4))),
        structure=compression.NM(1, 2),
        filters=lambda layer: not isinstance(layer, layers.Dense) or layer.units == 6,
    )
    reasons = {one.reason for one in pruning.report().skipped}
    assert "Wanda knows no inputs of a kernel of Own" in reasons
    assert "Wanda knows no inputs of a kernel of LSTMCell" in reasons
    assert len(pruning.report().pruned) == 1


def test_without_data_and_with_what_it_does_not_go():
    schedule = compression.Constant(0.5)
    with pytest.raises(ValueError, match="Wanda without data: expected calibration examples"):
        compression.prune(build(), "wanda", schedule=schedule)
    for arguments in ({"allocation": "global"}, {"structure": "filter"}):
        with pytest.raises(ValueError, match="criterion=Wanda: it"):
            compression.prune(build(), compression.Wanda(X), schedule=schedule, **arguments)
    config = keras.saving.serialize_keras_object(compression.Wanda(X))
    assert keras.saving.deserialize_keras_object(config).data is None
