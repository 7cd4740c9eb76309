"""Pruned, shrunk, saved, loaded elsewhere, trained on, pruned and shrunk again, exported."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import slowness
from keras import layers
from pruning_cases import X, Y

from tfdist import model_compression as compression

AGAIN = """
import sys

import keras
import numpy as np

from tfdist import model_compression as compression

folder = sys.argv[1]
data = np.load(folder + "/data.npz")
model = keras.models.load_model(folder + "/small.keras")
assert model.optimizer.iterations > 0
model.fit(data["x"], data["y"], 8, verbose=0)
schedule = compression.Cubic(final=0.5, begin=1, end=6)
model.fit(data["x"], data["y"], 8, verbose=0, callbacks=[
    compression.prune(model, "l2", "filter", schedule)
])
smaller = compression.shrink(model)
smaller.fit(data["x"], data["y"], 8, verbose=0)
smaller.save(folder + "/smaller.keras")
np.save(folder + "/outputs.npy", smaller.predict(data["x"], verbose=0))
"""

PLAIN = """
import sys

import keras

model = keras.models.load_model(sys.argv[1])
print([tuple(weight.shape) for weight in model.get_weights()][:2], "tfdist" in sys.modules)
"""


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("life")
    keras.config.set_floatx("float32")  # of the module's fixture: those of a test come later
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(1)
    x = keras.Input((8, 8, 3), dtype="float32")
    y = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.ReLU()(layers.BatchNormalization()(y))
    z = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(y)
    y = layers.Add()([y, layers.Conv2D(8, 1)(z)])
    y = layers.Dense(16, activation="relu")(layers.Flatten()(y))
    model = keras.Model(x, layers.Dense(4)(y))
    model.compile("adam", "mse")
    data = X.astype("float32"), Y.astype("float32")
    pruning = compression.prune(model, "l2", "filter", compression.Constant(final=0.5, begin=2))
    model.fit(*data, 8, verbose=0, callbacks=[pruning])
    small = compression.shrink(model)
    small.save(folder / "small.keras")
    np.savez(folder / "data.npz", x=data[0], y=data[1])
    run(AGAIN, folder)
    return folder, small


def run(program, argument):
    found = subprocess.run(
        [sys.executable, "-c", program, str(argument)],
        capture_output=True,
        text=True,
        timeout=slowness.seconds(120),
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_it_is_smaller_each_time(lived):
    folder, small = lived
    smaller = keras.models.load_model(folder / "smaller.keras")
    shapes = [[tuple(w.shape) for w in model.get_weights()] for model in (small, smaller)]
    assert shapes[0][0] == (3, 3, 3, 4) and shapes[1][0] == (3, 3, 3, 2)
    assert smaller.layers[-1].kernel.shape == (4, 4)


def test_the_last_file_computes_what_it_did_when_it_was_saved(lived):
    folder, _ = lived
    smaller = keras.models.load_model(folder / "smaller.keras")
    outputs = smaller.predict(X.astype("float32"), verbose=0)
    np.testing.assert_allclose(outputs, np.load(folder / "outputs.npy"), rtol=1e-5, atol=1e-6)


def test_the_file_opens_without_tfdist(lived):
    folder, _ = lived
    assert run(PLAIN, folder / "smaller.keras").startswith("[(3, 3, 3, 2), (2,)] False")


def test_it_is_exported_to_litert(lived):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    folder, _ = lived
    smaller = keras.models.load_model(folder / "smaller.keras")
    smaller.export(folder / "smaller.tflite", format="litert", verbose=False)
    interpreter = litert.Interpreter(str(folder / "smaller.tflite"))
    interpreter.allocate_tensors()
    (given,), (returned,) = interpreter.get_input_details(), interpreter.get_output_details()
    expected = np.load(folder / "outputs.npy")
    for row, output in list(zip(X.astype("float32"), expected))[:5]:
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        found = interpreter.get_tensor(returned["index"])[0]
        np.testing.assert_allclose(found, output, rtol=1e-4, atol=1e-5)
