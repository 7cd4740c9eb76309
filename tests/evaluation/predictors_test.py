import keras
import numpy as np
import pytest

from tfdist.evaluation.predictors import predictor_of
from tfdist.evaluation.temperature import TemperatureScaling

X = np.random.default_rng(0).normal(size=(11, 4)).astype("float32")


def classifier():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), TemperatureScaling(2.0), keras.layers.Softmax()]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_a_keras_model_and_its_file(tmp_path):
    model = classifier()
    predictor = predictor_of(model)
    assert (predictor.name, predictor.loss) == (model.name, "sparse_categorical_crossentropy")
    # Some processors round otherwise in batches of another size.
    expected = model.predict(X, batch_size=4, verbose=0)
    np.testing.assert_array_equal(predictor.predict(X, 4), expected)
    model.save(tmp_path / "small.keras")
    loaded = predictor_of(str(tmp_path / "small.keras"))
    assert (loaded.name, loaded.loss) == ("small.keras", "sparse_categorical_crossentropy")
    np.testing.assert_allclose(loaded.predict(X, 4), expected, rtol=1e-6)


def test_a_callable_is_called_batch_by_batch():
    sizes = []

    def scores(batch):
        sizes.append(len(batch))
        return batch.sum(axis=1)

    predictor = predictor_of(scores)
    assert (predictor.name, predictor.loss) == ("scores", None)
    np.testing.assert_array_equal(predictor.predict(X, 4), X.sum(axis=1))
    assert sizes == [4, 4, 3]
    layer = keras.layers.Softmax()
    np.testing.assert_allclose(predictor_of(layer).predict(X, 4), layer(X), rtol=1e-6)


def test_columns_that_serve_the_slices_are_kept_from_the_model():
    inputs = {name: keras.Input((1,), name=name) for name in ("a", "b")}
    total = keras.layers.Add()([inputs["a"], inputs["b"]])
    x = {"a": X[:, :1], "b": X[:, 1:2], "country": np.array(["de"] * 11)}
    expected = X[:, :1] + X[:, 1:2]
    for form in (inputs, list(inputs.values())):
        found = predictor_of(keras.Model(form, total)).predict(x, 4)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    single = keras.Model(inputs["a"], keras.layers.Identity()(inputs["a"]))
    np.testing.assert_array_equal(predictor_of(single).predict(x, 4), X[:, :1])
    sequential = keras.Sequential([inputs["a"], keras.layers.Identity()])
    np.testing.assert_array_equal(predictor_of(sequential).predict(x, 4), X[:, :1])


def test_strings_reach_the_model():
    vectorize = keras.layers.TextVectorization(output_mode="int", output_sequence_length=2)
    vectorize.adapt(["good bad"])
    model = keras.Sequential([keras.Input((), dtype="string"), vectorize])
    texts = np.array([b"good bad", b"bad"], dtype=object)
    expected = model.predict(keras.ops.convert_to_tensor(["good bad", "bad"]), verbose=0)
    for x in (texts, texts.astype(str)):
        np.testing.assert_array_equal(predictor_of(model).predict(x, 2), expected)


def test_several_outputs_are_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    with pytest.raises(ValueError, match="has 2 outputs; expected one"):
        predictor_of(model).predict(X, 4)
    both = predictor_of(lambda x: {"a": x, "b": x})
    with pytest.raises(ValueError, match=r"has 2 outputs \(a, b\); expected one"):
        both.predict(X, 4)


@pytest.mark.parametrize("name", ["nothing.keras", "nothing.tflite", "nothing", "."])
def test_a_path_without_a_model(tmp_path, name):
    with pytest.raises(ValueError, match=r"Found no model at .*; expected a `\.keras` file"):
        predictor_of(tmp_path / name)


def test_what_is_no_model():
    with pytest.raises(TypeError, match="Received a int to evaluate; expected a Keras model"):
        predictor_of(3)
