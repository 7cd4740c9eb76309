"""The Python of the README and of the docs' pages, run as it stands there."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = ROOT / "README.md"


def blocks_of(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


BLOCKS = blocks_of(README)
# Pages that stand by themselves: each begins with what it imports, and asserts what it says.
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks_of(page)]
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


def test_every_block_is_run_here():
    # Two are not: AsyncSGD's, which needs parameter servers (parameter_server_test), and
    # NCCL's, which needs GPUs.
    assert len(BLOCKS) == 8


def test_the_first_one_trains(names):
    assert names["model"].history.history["loss"][-1] < 2.0
    assert names["model"].history.history["accuracy"][-1] > 0.3


def test_a_function_on_workers(names):
    def train():
        import tfdist

        return tfdist.rank()

    assert run({**names, "train": train}, "tfdist.run(")["histories"] == [0, 1]


def test_gradient_sync(names):
    run(names, "DiLoCo(", "PowerSGD(")
    assert "sync_bytes" in names["model"].history.history


def test_a_checkpoint(names, tmp_path):
    run(names, "Checkpoint(")
    assert any((tmp_path / "ckpt").iterdir())


def test_evaluation(names, tmp_path):
    labels = (X[:, 0] + np.random.default_rng(1).normal(size=256) > 0).astype(int)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, activation="sigmoid")])
    model.compile("adam", "binary_crossentropy")
    model.fit(X, labels, epochs=5, verbose=0)
    convert = tf.lite.TFLiteConverter.from_keras_model(model)
    (tmp_path / "model_int8.tflite").write_bytes(convert.convert())
    parts = {"x_validation": X[:128], "y_validation": labels[:128], "model": model}
    parts |= {"x_test": X[128:], "y_test": labels[128:], "country": np.array(["a", "b"] * 64)}
    run(names | parts, "best_threshold")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_search(names, tmp_path):
    def build(hp):
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.Float("rate", 1e-4, 0.1, sampling="log")), "mse")
        return model

    found = run({**names, "build": build, "validation": (X, names["y"])}, "tuning.search")
    assert len(found["results"].trials) == 10
    assert (tmp_path / "trials.png").exists()


def test_the_pages_of_the_docs_are_found():
    assert {page.stem for page in PAGES} >= {"losses", "layer_state"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_the_docs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {"__name__": "__main__"}
    for block in blocks_of(page):
        exec(compile(block, str(page), "exec"), found)
