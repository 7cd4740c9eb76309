"""The docstrings' examples that need a reader's own model and data, run as they stand there.

Those with `>>>` are run by pytest itself.
"""

import pathlib
import re
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from upstream import two_cpus

import tfdist

PACKAGE = pathlib.Path(tfdist.__file__).parent
# They need parameter servers; strategies/parameter_server_test trains with both.
ELSEWHERE = {"callbacks/async_sgd.py", "strategies/parameter_server.py"}
SLOW = {"tuning/search.py"}  # ten trials, as the README's
FENCE = re.compile(r"^ *```python\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
EXAMPLES = {
    str(path.relative_to(PACKAGE)): [
        textwrap.dedent(example) for example in FENCE.findall(path.read_text("utf-8"))
    ]
    for path in sorted(PACKAGE.rglob("*.py"))
    if "```python" in path.read_text("utf-8")
}


def names(examples, outputs=1, activation="sigmoid", loss="binary_crossentropy"):
    """What the reader has at hand: a classifier under a strategy, and labelled data."""

    def make():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(outputs, activation)])
        model.compile(keras.optimizers.Adam(0.1), loss)
        return model

    strategy = two_cpus()
    with strategy.scope():
        model = make()
        model.optimizer.build(model.trainable_variables)  # as if it had been trained here
    model.set_weights(trained(make, outputs))
    found = {"tfdist": tfdist, "keras": keras, "strategy": strategy, "model": model}
    for seed, end in enumerate(("", "_test", "_val", "_validation")):
        found[f"x{end}"], found[f"y{end}"] = data(seed)
    found |= {"validation": data(3), "test": data(1), "countries": np.array(["a", "b"] * 64)}
    if "report" in "".join(examples):
        found["report"] = tfdist.evaluate(model, data(3))
    return found


TRAINED = {}


def trained(make, outputs):
    """The weights of a model that has learnt, which each process trains once."""
    if outputs not in TRAINED:
        model = make()
        model.fit(*data(0), epochs=10, verbose=0)
        TRAINED[outputs] = model.get_weights()
    return TRAINED[outputs]


def data(seed):
    """128 examples and their labels, which noise makes uncertain."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(128, 4)).astype("float32")
    return x, (x[:, 0] + rng.normal(size=128) > 0).astype(int)


def test_these_are_all():
    assert set(EXAMPLES) > ELSEWHERE
    assert set(EXAMPLES) > SLOW
    assert len(EXAMPLES) > 10


@pytest.mark.filterwarnings("ignore:MultiWorkerMirroredStrategy found no TF_CONFIG")
@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in EXAMPLES
        if name not in ELSEWHERE
    ],
)
def test_it_runs(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EXAMPLES[module]
    kind = ()
    if module == "evaluation/temperature.py":  # of logits
        kind = (2, "linear", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    given = names(EXAMPLES[module], *kind)
    if module == "strategies/multi_worker.py":  # ten outputs
        given["y"] = np.zeros((128, 10))
    if "model_int8.tflite" in "".join(EXAMPLES[module]):
        convert = tf.lite.TFLiteConverter.from_keras_model(given["model"])
        (tmp_path / "model_int8.tflite").write_bytes(convert.convert())
    for example in EXAMPLES[module]:
        exec(compile(example, module, "exec"), given)
