import keras
import numpy as np
import pytest

import tfdist
from tfdist.evaluation.progress import Progress

X = np.random.default_rng(0).normal(size=(70, 3)).astype("float32")
Y = (X[:, 0] > 0).astype(int)


def model():
    made = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    made.compile("sgd", "binary_crossentropy")
    return made


def evaluate(what, **arguments):
    return tfdist.evaluate(what, (X, Y), bootstrap=0, **arguments)


@pytest.mark.parametrize("what", [model, lambda: lambda x: 1 / (1 + np.exp(-x[:, 0]))])
def test_a_bar_counts_all_examples(what, capsys):
    evaluate(what(), verbose=1)
    assert "70/70" in capsys.readouterr().out


def test_a_short_one_shows_nothing(capsys):
    evaluate(model())
    evaluate(model(), verbose=0)
    assert capsys.readouterr().out == ""


def test_a_long_one_shows_how_far_it_is(capsys):
    progress = Progress(100, True, after=0.0)
    progress.add(30)
    assert "30/100" in capsys.readouterr().out
    progress.add(90)  # a last batch that is not full counts as a whole one
    assert "100/100" in capsys.readouterr().out


def test_another_verbosity():
    with pytest.raises(ValueError, match="verbose='loud': expected 0, 1 or 'auto'"):
        evaluate(model(), verbose="loud")
