"""The character language model, on the real Shakespeare, scaled down."""

import math
import pathlib
import re
import sys

import numpy as np
import pytest
from programs import Programs

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
SCRIPT = EXAMPLES / "char_lm.py"
SCALED_DOWN = [
    *("--layers", "1", "--heads", "2", "--width", "32", "--block", "32"),
    *("--steps", "60", "--evaluate-every", "30", "--warmup", "6", "--learning-rate", "1e-2"),
    *("--sample", "40"),
]


@pytest.fixture(scope="module", autouse=True)
def shakespeare():
    """Fetches the texts once, before two workers would at the same time."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import char_lm_data

        return char_lm_data.load()
    finally:
        sys.path.remove(str(EXAMPLES))


def _losses(text):
    return [float(found) for found in re.findall(r"validation loss ([\d.]+)", text)]


def _decode(tokens, characters):
    return "".join(np.array(list(characters))[tokens])


def test_the_texts_are_shakespeare(shakespeare):
    train, validation, characters = shakespeare
    assert len(train) + len(validation) > 5_000_000
    assert len(validation) == pytest.approx(len(train) / 9, rel=1e-3)
    text = _decode(train, characters)
    assert "To be, or not to be,--that is the question:--" in text  # Hamlet, in the third act
    assert "Gutenberg" not in text
    # The end of The Winter's Tale, which is the last text, is held out.
    end = "Each one demand, and answer to his part"
    assert end in _decode(validation, characters) and end not in text


def _chance(shakespeare):
    """The loss in nats of the best guess that does not look at the text: the entropy."""
    train, validation, characters = shakespeare
    share = np.bincount(train, minlength=len(characters)) / len(train)
    return -math.fsum(np.log(share[validation])) / len(validation)


@pytest.mark.slow  # equality_test holds it to 1e-9, and the example of MNIST in the quick tests
def test_two_workers_reach_the_loss_of_one_process(shakespeare):
    with Programs() as programs:
        alone = programs.start([sys.executable, SCRIPT, *SCALED_DOWN, "--batch-size", "24"])
        assert alone.wait(120) == 0, alone.err
        together = programs.run("-n", "2", SCRIPT, *SCALED_DOWN, "--batch-size", "12")
        assert together.wait(120) == 0, together.err
    (expected,) = _losses(alone.out)
    one, other = _losses(together.out)
    assert expected < _chance(shakespeare)
    assert one == other == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("sync", ["diloco", pytest.param("powersgd", marks=pytest.mark.slow)])
def test_two_workers_agree(shakespeare, sync):
    arguments = [*SCALED_DOWN, "--sync", sync, "--period", "10"]
    with Programs() as programs:
        together = programs.run("-n", "2", SCRIPT, *arguments)
        assert together.wait(120) == 0, together.err
    one, other = _losses(together.out)
    assert one == other < _chance(shakespeare)
    # The chief alone writes, and only what occurs in the texts.
    lines = [line for line in together.out.splitlines() if line.startswith("[worker 0]")]
    lines = [line.removeprefix("[worker 0]").removeprefix(" ") for line in lines]
    (begin,) = [i for i, line in enumerate(lines) if "validation loss" in line]
    written = "\n".join(lines[begin + 1 :])
    assert len(written) >= 35 and set(written) <= set(shakespeare[2])
