"""The steps that asynchronous training has handed to workers, and what became of them."""

import itertools
import queue
import threading
import time

import tensorflow as tf

from tfdist.strategies.agreement import agreement_timeout
from tfdist.strategies.lost_worker import may_come_back

_POLL_S = 0.2


class Outstanding:
    """The steps that are out: handed to workers, and not known to be done.

    Args:
        strategy: the `ParameterServerStrategy`.
    """

    _numbers = itertools.count()

    def __init__(self, strategy):
        self._strategy = strategy
        self._results = queue.SimpleQueue()
        self._out = set()

    def __len__(self):
        return len(self._out)

    def hand_out(self, function, *args):
        """Lets a worker call `function(number, *args)`; returns the number at once.

        Args:
            function: a concrete function.
            *args: its arguments behind the number.
        """
        number = next(self._numbers)
        self._out.add(number)
        arguments = (tf.constant(number, tf.int64), *args)
        remote = self._strategy.coordinator.schedule(function, args=arguments)
        # Not a pool: its threads would keep a program from ending whose steps never do.
        threading.Thread(
            target=self._wait_for, args=(number, remote), name=f"tfdist-step-{number}", daemon=True
        ).start()
        return number

    def _wait_for(self, number, remote):
        deadline = time.monotonic() + agreement_timeout()
        while True:
            try:
                self._results.put((number, remote.fetch(), None))
            except Exception as error:
                # The worker died with the result, before it came here: TensorFlow does the
                # step again, and then there is another one.
                if may_come_back(error) and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
                    continue
                self._results.put((number, None, error))  # for the thread that hands out
            return

    def next(self):
        """Waits for the next step that ends; returns its number and what it returned.

        Raises:
            TimeoutError: none ended in time; names the workers that are late.
        """
        timeout = agreement_timeout()
        try:
            return self._taken(self._results.get(timeout=timeout))
        except queue.Empty:
            workers = enumerate(self._strategy.cluster.workers)
            names = ", ".join(f"worker {i} ({address})" for i, address in workers)
            raise TimeoutError(
                f"None of {names} ended a step within {timeout:g} s, and {len(self._out)} are "
                "out. TFDIST_TIMEOUT sets how many seconds the coordinator waits."
            ) from None

    def those_done(self):
        """Yields the steps that have ended, without waiting."""
        while not self._results.empty():
            yield self._taken(self._results.get())

    def rest(self):
        """Yields all steps that are out, as they end."""
        while self._out:
            yield self.next()

    def _taken(self, result):
        number, value, error = result
        self._out.discard(number)
        if error is not None:
            raise self._first_error(error)
        return number, value

    def _first_error(self, error):
        """What went wrong first: of the others some were cancelled because of it."""
        try:
            self._strategy.coordinator.done()  # raises it, and forgets all of them
        except Exception as first:
            return first
        return error
