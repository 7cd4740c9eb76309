import queue
import signal
import threading
import time

import pytest
import slowness

from tfdist.cluster.inbox import take


def test_it_takes_what_comes_and_gives_up_in_time():
    inbox = queue.SimpleQueue()
    timer = threading.Timer(0.4, inbox.put, ["late"])  # later than one wait
    timer.start()
    assert take(inbox, time.monotonic() + slowness.seconds(20)) == "late"
    timer.join()
    with pytest.raises(queue.Empty):
        take(inbox, time.monotonic())
    inbox.put("there")
    assert take(inbox, time.monotonic() - 1) == "there"


def test_a_handler_may_put():
    inbox = queue.SimpleQueue()
    previous = signal.signal(signal.SIGUSR1, lambda *_: inbox.put("signal"))
    try:
        timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGUSR1])  # in another thread
        timer.start()
        assert take(inbox, time.monotonic() + slowness.seconds(20)) == "signal"
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
