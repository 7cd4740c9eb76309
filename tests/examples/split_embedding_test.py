"""The example with an embedding over two parameter servers, on the real text, scaled down."""

import pathlib
import re

import keras
from programs import Programs

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "examples" / "split_embedding.py"
SCALED_DOWN = ["--epochs", "4", "--words", "100000"]


def test_it_learns_over_two_servers_and_saves_one_table(tmp_path):
    with Programs() as programs:
        saved = tmp_path / "model.keras"
        run = programs.run("-n", "2", "--ps", "2", SCRIPT, *SCALED_DOWN, "--save", saved)
        assert run.wait(150) == 0, run.err
    rows = re.findall(r"(\d+) rows on /job:ps/replica:0/task:(\d)/", run.out)
    assert [task for _, task in rows] == ["0", "1"]
    (found,) = re.findall(r"accuracy ([\d.]+)%; always the commonest word: ([\d.]+)%", run.out)
    accuracy, guess = map(float, found)
    assert accuracy > guess + 1
    table = keras.saving.load_model(saved, compile=False).layers[0]
    assert table.weights[0].shape[0] == sum(int(count) for count, _ in rows)
