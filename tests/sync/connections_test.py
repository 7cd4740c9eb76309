"""What a call over the connections costs, and how it ends when a worker does not answer."""

import threading
import time

import numpy as np
import pytest
import slowness
from rings import on_workers

from tfdist.sync.connections import WorkersLost


def test_seconds_are_those_of_the_calls_waiting_included():
    begins = threading.Event()

    def program(ring):
        assert ring.seconds == 0
        if ring.index == 1:
            assert begins.wait(30)
            time.sleep(slowness.seconds(1))
        begins.set()
        ring.all_reduce([np.ones(3)])
        first = ring.seconds
        time.sleep(slowness.seconds(1))
        assert ring.seconds == first > 0  # nothing outside of calls
        ring.all_to_all([[np.ones(3)]] * 2)
        assert ring.seconds > first
        return first

    waited, _ = on_workers(2, program)
    assert waited > 0.5


def test_a_worker_that_is_lost_is_named():
    def program(ring):
        if ring.index == 1:
            return None  # closes its connections
        return ring.all_reduce([np.ones(3)])

    first, _, third = on_workers(3, program)
    assert isinstance(first, ConnectionResetError) and "worker 1 was lost" in str(first)
    assert isinstance(third, ConnectionResetError)


def test_a_worker_that_ends_after_another_is_not_blamed_alone():
    ended = threading.Event()

    def program(ring):
        if ring.index == 1:
            return None  # closes its connections
        if ring.index == 2:
            try:
                return ring.all_reduce([np.ones(3)])
            finally:
                ring.close()  # as a worker that fails for the loss of another
                ended.set()
        assert ended.wait(30)
        return ring.all_reduce([np.ones(3)])

    first, _, _ = on_workers(3, program)
    assert isinstance(first, ConnectionResetError)
    assert "worker 1 was lost" in str(first) and "worker 2 was lost" in str(first)


def test_another_call_is_noticed():
    def program(ring):
        return ring.all_reduce([np.ones(4 if ring.index else 3)])

    for error in on_workers(2, program):
        assert isinstance(error, ConnectionError)
        assert "makes a different call" in str(error) and "same order" in str(error)


def test_a_silent_worker_is_named_at_the_deadline():
    over = threading.Event()

    def program(ring):
        if ring.index == 1:
            assert over.wait(30)
            return "silent"
        try:
            ring.all_reduce([np.ones(3)])
        finally:
            over.set()

    error, silent = on_workers(2, program, deadline=0.5)
    assert silent == "silent"
    assert isinstance(error, TimeoutError)
    assert str(error) == "worker 1 did not answer within 0.5 s"


def test_what_is_wrong_with_the_job_ends_a_call():
    over = threading.Event()

    def program(ring):
        if ring.index == 1:
            assert over.wait(30)
            return None
        try:
            ring.all_reduce([np.ones(3)])
        finally:
            over.set()

    error, _ = on_workers(2, program, health=lambda: [("worker 7", "it sleeps")])
    assert isinstance(error, WorkersLost)
    assert str(error) == "worker 7 was lost: it sleeps, while waiting for worker 1"


def test_abort_ends_this_call_and_all_later_ones():
    def program(ring):
        if ring.index == 1:
            time.sleep(3)
            return None
        threading.Timer(0.2, ring.abort, ["enough"]).start()
        errors = []
        for _ in range(2):
            with pytest.raises(TimeoutError) as raised:
                ring.all_reduce([np.ones(3)])
            errors.append(str(raised.value))
        return errors

    assert on_workers(2, program)[0] == ["enough", "enough"]
