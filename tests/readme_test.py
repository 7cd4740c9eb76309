"""The README: its Python is run as it stands there, and it stays a front page."""

import pathlib
import re

import keras
import numpy as np
import pytest

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
X = np.random.default_rng(0).normal(size=(256, 6)).astype("float32")


def run(names, *words):
    """Runs the one block with these words in it; returns its names."""
    (block,) = [one for one in BLOCKS if all(word in one for word in words)]
    exec(compile(block, str(README), "exec"), names)
    return names


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the README's reader has at hand: the modules, six classes of random data."""
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)  # of ten starts, one trains too slowly for the bound below
    return run({"x": X, "y": np.argmax(X, axis=1)}, "auto_strategy")


def test_it_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_every_block_is_run_here():
    assert len(BLOCKS) == 2


def test_the_first_one_trains(names):
    assert names["model"].history.history["loss"][-1] < 2.0
    assert names["model"].history.history["accuracy"][-1] > 0.3


def test_a_function_on_workers(names):
    def train():
        import tfdist

        return tfdist.rank()

    assert run({**names, "train": train}, "tfdist.run(")["histories"] == [0, 1]
