"""Waiting for messages in the main thread, where signals are handled."""

import queue
import time

_PATIENCE_S = 0.25


def take(inbox, deadline=None):
    """Takes the next message out of a queue, and lets signal handlers run meanwhile.

    Python runs handlers between two instructions of the main thread. A signal
    that comes while `get` is about to block, as when it waits for another thread
    to take the interpreter lock, does not wake it up, and its handler would not
    run before the next message. So it is never blocked for long.

    Args:
        inbox: A `queue.SimpleQueue`, which handlers may put into.
        deadline: When to give up, on `time.monotonic`'s clock, or None.

    Returns:
        The message.

    Raises:
        queue.Empty: If none came in time.
    """
    while True:
        wait = _PATIENCE_S
        if deadline is not None:
            wait = max(0.0, min(wait, deadline - time.monotonic()))
        try:
            return inbox.get(timeout=wait)
        except queue.Empty:
            if deadline is not None and time.monotonic() >= deadline:
                raise
