"""A deadline for collectives, whose own deadline costs a thread each.

A worker whose peer has died hears of it from TensorFlow's heartbeat. A peer that
is alive but elsewhere (in a callback that never returns, in a call that it alone
makes) is not noticed: the collective waits. So a thread beside the
training watches how long the present call has lasted; past the deadline it asks
the other workers' watchdogs whether they wait too, and ends the collective with
an error that names those that do not.
"""

import contextlib
import itertools
import threading
import time

from tfdist.compat import coordination
from tfdist.strategies.agreement import agreement_timeout

_POLL_SECONDS = 1.0
_ANSWER_SECONDS = 5.0


class Watchdog:
    """Watches one worker's calls that wait for the others.

    Args:
        index: this worker's index.
        addresses: list of all workers' `host:port`.
        abort: called with a message past the deadline, to end what the worker waits in;
            by default the collectives of TensorFlow.
    """

    def __init__(self, index, addresses, abort=None):
        self._index = index
        self._addresses = addresses
        self._abort = abort or coordination.abort_collectives
        self._calls = itertools.count()
        self._call = None  # (number, description, when it began)
        self._thread = None

    @contextlib.contextmanager
    def watching(self, description):
        """What happens inside must take less than `TFDIST_TIMEOUT` seconds."""
        if self._call is not None:  # a call inside a call has the outer one's deadline
            yield
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="tfdist watchdog", daemon=True)
            self._thread.start()
        self._call = (next(self._calls), description, time.monotonic())
        try:
            yield
        finally:
            self._call = None

    def _watch(self):
        reported = None
        while True:
            time.sleep(_POLL_SECONDS)
            call, timeout = self._call, agreement_timeout()
            if call is None or call == reported or time.monotonic() - call[2] < timeout:
                continue
            reported = call
            absent = self._absent(call[0])
            if self._call != call:  # it ended in the meantime
                continue
            names = ", ".join(f"worker {i} ({self._addresses[i]})" for i in absent)
            self._abort(
                f"{names or 'a worker'} did not answer within {timeout:g} s: worker {self._index} "
                f"waits in {call[1]}, which all workers must call together. TFDIST_TIMEOUT sets "
                "how many seconds they wait for each other."
            )

    def _absent(self, number):
        """The workers whose watchdogs do not say that they wait in the same call."""
        key = f"tfdist/waiting/{number}"
        with contextlib.suppress(Exception):  # the service may be gone: then all are absent
            coordination.put(f"{key}/{self._index}", "")
        deadline = time.monotonic() + _ANSWER_SECONDS
        absent = []
        for other in range(len(self._addresses)):
            try:
                left = max(0.01, deadline - time.monotonic())
                if coordination.get(f"{key}/{other}", left) is None:
                    absent.append(other)
            except Exception:
                absent.append(other)
        return absent
