"""The pruning example, on the real images, scaled down."""

import os
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
from programs import Programs

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "prune_fashion_mnist.py"
SCALED_DOWN = ["--epochs", "1", "--examples", "1985"]  # 31 full batches and one of one image


@pytest.fixture(scope="module", autouse=True)
def images():
    """Fetches the images once."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import fashion_mnist_data

        return fashion_mnist_data.load()
    finally:
        sys.path.remove(str(EXAMPLES))


def row(text, name):
    """The two numbers of a row of the report: before and after."""
    (found,) = re.findall(rf"{name} +([\d.,]+) +([\d.,]+) ", text)
    return [float(number.replace(",", "")) for number in found]


def test_the_images_are_fashion_mnist(images):
    (x_train, y_train), (x_test, y_test) = images
    assert x_train.shape == (60_000, 28, 28) and x_test.shape == (10_000, 28, 28)
    for labels, count in ((y_train, 6000), (y_test, 1000)):  # as published
        np.testing.assert_array_equal(np.bincount(labels), [count] * 10)


def test_two_workers_make_a_network_half_as_wide(tmp_path):
    with Programs() as programs:
        saved = ["--save", tmp_path / "small.keras", "--page", tmp_path / "report.html"]
        together = programs.run("-n", "2", SCRIPT, *SCALED_DOWN, *saved)
        assert together.wait(180) == 0, together.err
    assert "[worker 1]" not in together.out  # the chief alone prints
    before, after = row(together.out, "MACs")
    assert after < before / 3
    small = keras.models.load_model(tmp_path / "small.keras")
    assert [small.layers[i].kernel.shape[-1] for i in (0, 4, -1)] == [16, 32, 10]
    assert "<html" in (tmp_path / "report.html").read_text()


@pytest.mark.slow  # that workers prune as one process does is tested in model_compression
def test_one_process_has_the_same_numbers(tmp_path):
    # In float32 a filter may be chosen otherwise by how a sum was rounded.
    (tmp_path / "keras.json").write_text('{"floatx": "float64", "backend": "tensorflow"}')
    env = os.environ | {"KERAS_HOME": str(tmp_path)}
    with Programs() as programs:
        alone = programs.start([sys.executable, SCRIPT, *SCALED_DOWN], env=env)
        assert alone.wait(180) == 0, alone.err
        together = programs.run("-n", "2", SCRIPT, *SCALED_DOWN, env=env)
        assert together.wait(180) == 0, together.err
    for name in ("accuracy", "loss"):
        assert row(together.out, name) == row(alone.out, name)
