"""How far a long evaluation has come."""

import time

import keras

AFTER_S = 3.0  # an evaluation that is over by then shows nothing


class Progress:
    """Keras' progress bar, of examples, for an evaluation that takes long.

    Args:
        total: int, all examples; None where nobody knows.
        shown: bool, whether to show anything.
        after: seconds from now on until it is shown.
    """

    def __init__(self, total, shown, after=AFTER_S):
        self._total, self._shown = total, shown
        self._due = time.monotonic() + after
        self._bar, self._done = None, 0

    def add(self, examples):
        """`examples` more have been predicted."""
        self._done += examples
        if not self._shown or (self._bar is None and time.monotonic() < self._due):
            return
        if self._bar is None:
            self._bar = keras.utils.Progbar(self._total, unit_name="example")
        done = self._done if self._total is None else min(self._done, self._total)
        self._bar.update(done)
