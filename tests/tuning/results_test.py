import json

import pytest
from matplotlib import image

from tfdist.tuning import SearchResults


def trial(name, score, status="COMPLETED", error=None, **hyperparameters):
    facts = {"trial": name, "status": status, "score": score, "epoch": 0, "error": error}
    return {**facts, "hyperparameters": hyperparameters}


TRIALS = [
    trial("0", 0.5, units=8, kind="a"),
    trial("1", None, "INVALID", "ValueError: no", units=0, kind="b"),
    trial("2", 0.25, units=16, kind="b"),
]


def results(direction="min"):
    return SearchResults("val_loss", direction, TRIALS, lambda name: f"model {name}")


@pytest.mark.parametrize("direction, best", [("min", "2"), ("max", "0")])
def test_the_best_is_first_and_what_failed_last(direction, best):
    found = results(direction)
    assert next(one["trial"] for one in found.trials) == best
    assert found.trials[-1]["trial"] == "1"
    assert found.best_model() == f"model {best}"
    assert found.best_hyperparameters() == found.trials[0]["hyperparameters"]


def test_the_table():
    assert str(results()).splitlines() == [
        "trial  val_loss  units  kind  status",
        "2      0.25      16     b     completed",
        "0      0.5       8      a     completed",
        "1      -         0      b     ValueError: no",
    ]


def test_json(tmp_path):
    text = results().to_json(tmp_path / "trials.json")
    assert (tmp_path / "trials.json").read_text() == text
    assert json.loads(text)["trials"][0]["score"] == 0.25


def test_the_plot(tmp_path):
    results().plot(tmp_path / "trials.png")
    pixels = image.imread(tmp_path / "trials.png")
    assert pixels.shape[1] > 2 * pixels.shape[0]
    assert pixels[..., :3].min() < 0.5
