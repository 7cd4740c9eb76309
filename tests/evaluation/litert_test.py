import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdist.evaluation.predictors import predictor_of

X = np.random.default_rng(0).normal(size=(11, 4)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.fixture(scope="module")
def files(model, tmp_path_factory):
    """The model as float, as int8 throughout, and with a batch size of 4 for good."""
    directory = tmp_path_factory.mktemp("litert")
    model.export(directory / "any", verbose=False)
    four = [keras.InputSpec(shape=(4, 4), dtype="float32")]
    model.export(directory / "fixed", verbose=False, input_signature=four)
    made = {}
    for name in ("float", "int8", "uint8", "fixed"):
        source = directory / ("fixed" if name == "fixed" else "any")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source))
        if "int8" in name:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([row[None]] for row in X)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = getattr(tf, name)
            converter.inference_output_type = getattr(tf, name)
        made[name] = directory / f"{name}.tflite"
        made[name].write_bytes(converter.convert())
    return made


@pytest.mark.parametrize("name", ["float", "fixed"])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_float_file_gives_the_scores_of_the_model(model, files, name, batch_size):
    predictor = predictor_of(files[name])
    assert (predictor.name, predictor.is_quantized) == (f"{name}.tflite", False)
    expected = model.predict(X, verbose=0)
    np.testing.assert_allclose(predictor.predict(X, batch_size), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["int8", "uint8"])
def test_a_quantized_file_gives_probabilities_near_those_of_the_model(model, files, name):
    predictor = predictor_of(files[name])
    assert predictor.is_quantized
    found = predictor.predict(X, 4)
    assert found.dtype == "float64"
    np.testing.assert_allclose(found, model.predict(X, verbose=0), atol=0.03)
    np.testing.assert_array_equal(found, predictor.predict(X.astype("float64"), 11))


def test_inputs_of_another_shape(files):
    with pytest.raises(ValueError, match=r"of shape \(-1, 4\) \(-1: any size\); received \(2, 5\)"):
        predictor_of(files["float"]).predict(np.zeros((2, 5)), 2)


def test_without_the_interpreter_the_error_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match=r'pip install "tfdist\[litert\]"'):
        predictor_of(files["float"])
