"""What both sides train: nanoGPT's CPU setting on Shakespeare, 0.83 M parameters, 3.3 MB.

The data, the initial weights, the optimizer and its numbers are the same on all sides; so
is the clock, which stands while the model is evaluated.
"""

import os
import pathlib
import sys
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))

LAYERS, HEADS, WIDTH, BLOCK = 4, 4, 128, 64
BATCH = 12  # sequences a worker
STDDEV = 0.02  # of all initial matrices
# Adam, constant after the warm-up: the time to a loss then depends on no horizon.
LEARNING_RATE, WARM_UP_STEPS, BETA_1, BETA_2, EPSILON = 2e-3, 50, 0.9, 0.99, 1e-8
VALIDATION = 256  # sequences


def data(steps, workers, seed=0):
    """Returns `(x, y), (x_validation, y_validation), vocabulary`; x and y are int32.

    The rows of step s are `x[s * workers * BATCH :][: workers * BATCH]`, the first
    BATCH of them worker 0's.
    """
    import char_lm_data

    train, validation, characters = char_lm_data.load()
    random = np.random.default_rng(seed)
    starts = random.integers(0, len(train) - BLOCK, steps * workers * BATCH)
    even = np.linspace(0, len(validation) - BLOCK - 1, VALIDATION).astype(int)
    return _pieces(train, starts), _pieces(validation, even), len(characters)


def _pieces(text, starts):
    pieces = text[starts[:, None] + np.arange(BLOCK + 1)].astype("int32")
    return pieces[:, :-1], pieces[:, 1:]


def matrices(vocabulary, seed=0):
    """The initial matrices, `(inputs, outputs)`, in the order of the model; biases are zero.

    Embeddings of tokens and of places; query, key, value, output and the two of the
    MLP in each layer; the head.
    """
    random = np.random.default_rng(seed)
    layer = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    shapes = [(vocabulary, WIDTH), (BLOCK, WIDTH), *(layer * LAYERS), (WIDTH, vocabulary)]
    return [random.normal(0.0, STDDEV, shape).astype("float32") for shape in shapes]


class Recorder:
    """The seconds and bytes of training, without those of evaluation.

    The first step is not counted: it traces, compiles and allocates.

    Attributes:
        points: list of `{"step", "seconds", "sent", "packets", "loss"}`, a row an
            evaluation; the seconds, and the bytes and packets that this worker sent, are
            those since the row before.
    """

    def __init__(self):
        names = [name for name in os.listdir("/sys/class/net") if name != "lo"]
        self._counters = pathlib.Path("/sys/class/net", names[0], "statistics")
        self.points = []
        self._begin = None

    def begin(self):
        self._begin = time.perf_counter(), self._sent("bytes"), self._sent("packets")

    def end(self, step):
        seconds, sent, packets = self._begin
        point = {"step": step, "seconds": time.perf_counter() - seconds, "loss": None}
        point["sent"] = self._sent("bytes") - sent
        self.points.append({**point, "packets": self._sent("packets") - packets})

    def evaluated(self, loss):
        self.points[-1]["loss"] = float(loss)

    def _sent(self, what):
        return int((self._counters / f"tx_{what}").read_text())
