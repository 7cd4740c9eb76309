import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.evaluation.predictors import predictor_of

X = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")


def test_by_its_path_and_loaded(tmp_path):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.export(tmp_path / "exported", verbose=False)
    expected = model.predict(X, verbose=0)
    by_path = predictor_of(tmp_path / "exported")
    assert (by_path.name, by_path.loss) == ("exported", None)
    np.testing.assert_allclose(by_path.predict(X, 3), expected, rtol=1e-6)
    loaded = predictor_of(tf.saved_model.load(str(tmp_path / "exported")))
    # Other number types are cast to the signature's.
    np.testing.assert_allclose(loaded.predict([X.astype("float64")], 3), expected, rtol=1e-5)


def test_several_inputs_by_name(tmp_path):
    inputs = {name: keras.Input((4,), name=name) for name in ("left", "right")}
    both = keras.layers.Subtract()([inputs["left"], inputs["right"]])
    keras.Model(inputs, both).export(tmp_path / "exported", verbose=False)
    predictor = predictor_of(tmp_path / "exported")
    x = {"right": X, "left": 3 * X, "country": np.array(["de"] * 7)}
    np.testing.assert_allclose(predictor.predict(x, 3), 2 * X, rtol=1e-6)
    for wrong in (X, {"left": X}):
        with pytest.raises(ValueError, match=r"takes a dict of the inputs .*left"):
            predictor.predict(wrong, 3)


def test_strings(tmp_path):
    module = tf.Module()
    module.lengths = tf.function(
        lambda text: {"scores": tf.strings.length(text)},
        input_signature=[tf.TensorSpec([None], tf.string, name="text")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.lengths.get_concrete_function())
    texts = np.array(["good", "bad"], dtype=object)
    np.testing.assert_array_equal(predictor_of(tmp_path).predict(texts, 1), [4, 3])


def test_without_a_serving_signature(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ValueError, match=r"has the signatures \[\]; expected 'serving_default'"):
        predictor_of(tmp_path)
