import contextlib
import threading

import pytest
import slowness

from tfdist.strategies import watchdog as module
from tfdist.strategies.watchdog import Watchdog

ADDRESSES = ["host0:1", "host1:1", "host2:1"]
TIMEOUT_S = 5.0
DEADLINE_S = slowness.seconds(20.0)


class _End(Exception):
    pass


class Clock:
    """Time as the watchdog's thread sees it: it passes when the test says so."""

    def __init__(self):
        self._now = 1000.0
        self._sleeps = threading.Semaphore(0)
        self._wakes = threading.Semaphore(0)
        self._ended = False

    def monotonic(self):
        return self._now

    def sleep(self, seconds):
        self._sleeps.release()
        assert self._wakes.acquire(timeout=60), "the test forgot the watchdog"
        if self._ended:
            raise _End

    def passes(self, seconds):
        """Lets the watchdog look `seconds` later, and waits until it has looked."""
        assert self._sleeps.acquire(timeout=DEADLINE_S)  # it sleeps
        self._now += seconds
        self._wakes.release()
        assert self._sleeps.acquire(timeout=DEADLINE_S), "the watchdog is stuck"
        self._sleeps.release()

    def end(self):
        self._ended = True
        self._wakes.release()


class Service:
    """The coordination service: other workers' watchdogs answer, or do not."""

    def __init__(self, waiting):
        self.waiting = waiting  # indices of the other workers that wait, too
        self.asked = {}
        self.published = []
        self.aborts = []

    def put(self, key, value):
        self.published.append(key)

    def get(self, key, timeout):
        assert 0 < timeout <= DEADLINE_S
        worker = int(key.rpartition("/")[2])
        self.asked.setdefault(key, 0)
        return "" if worker in self.waiting or key in self.published else None

    def abort_collectives(self, message):
        self.aborts.append(message)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setenv("TFDIST_TIMEOUT", str(TIMEOUT_S))
    watch = Watchdog._watch

    def until_the_end(self):
        with contextlib.suppress(_End):
            watch(self)

    monkeypatch.setattr(Watchdog, "_watch", until_the_end)
    yield clock
    clock.end()


def use(monkeypatch, service):
    for name in ("put", "get", "abort_collectives"):
        monkeypatch.setattr(module.coordination, name, getattr(service, name))
    return service


@pytest.mark.parametrize("absent", [1, 2])
def test_it_names_the_absent_worker_and_not_the_waiting_one(monkeypatch, clock, absent):
    service = use(monkeypatch, Service(waiting={1, 2} - {absent}))
    watchdog = Watchdog(0, ADDRESSES)
    with watchdog.watching("a training step"):
        clock.passes(TIMEOUT_S)
    (message,) = service.aborts
    for index, address in enumerate(ADDRESSES):
        assert (f"worker {index} ({address})" in message) == (index == absent)
    assert "did not answer within 5 s: worker 0 waits in a training step" in message
    assert "TFDIST_TIMEOUT" in message


def test_it_names_all_absent_workers(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    with Watchdog(1, ADDRESSES).watching("sending variables"):
        clock.passes(TIMEOUT_S)
    (message,) = service.aborts
    assert message.startswith("worker 0 (host0:1), worker 2 (host2:1) did not answer")


def test_it_names_somebody_where_all_say_that_they_wait(monkeypatch, clock):
    # They wait in another collective of the same call.
    service = use(monkeypatch, Service(waiting={0, 1, 2}))
    with Watchdog(0, ADDRESSES).watching("`strategy.run`"):
        clock.passes(TIMEOUT_S)
    assert service.aborts[0].startswith("a worker did not answer")


def test_a_service_that_is_gone_ends_the_wait_all_the_same(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))

    def gone(*args):
        raise RuntimeError("the coordination service is gone")

    monkeypatch.setattr(module.coordination, "put", gone)
    monkeypatch.setattr(module.coordination, "get", gone)
    with Watchdog(0, ADDRESSES).watching("a training step"):
        clock.passes(TIMEOUT_S)
    assert "worker 1 (host1:1), worker 2 (host2:1)" in service.aborts[0]


def test_a_call_that_ends_in_time_is_left_alone(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    watchdog = Watchdog(0, ADDRESSES)
    for _ in range(3):  # 3 x 4.9 s: each call has the whole of its time
        with watchdog.watching("a training step"):
            clock.passes(TIMEOUT_S - 0.1)
    clock.passes(10 * TIMEOUT_S)  # between calls a worker may take its time
    assert service.aborts == [] and service.published == []
    with watchdog.watching("the next"):
        clock.passes(TIMEOUT_S)
    assert len(service.aborts) == 1 and "waits in the next" in service.aborts[0]


def test_a_call_that_raises_has_ended(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    watchdog = Watchdog(0, ADDRESSES)
    with pytest.raises(KeyError):
        with watchdog.watching("a training step"):
            raise KeyError
    clock.passes(10 * TIMEOUT_S)
    assert service.aborts == []


def test_a_call_that_ends_while_the_others_are_asked_is_left_alone(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    watchdog = Watchdog(0, ADDRESSES)
    asking, ended = threading.Event(), threading.Event()
    get = service.get

    def slowly(key, timeout):
        asking.set()
        assert ended.wait(DEADLINE_S)
        return get(key, timeout)

    monkeypatch.setattr(module.coordination, "get", slowly)
    looking = threading.Thread(target=clock.passes, args=(TIMEOUT_S,))
    with watchdog.watching("a training step"):
        looking.start()
        assert asking.wait(DEADLINE_S)
    ended.set()
    looking.join(DEADLINE_S)
    assert not looking.is_alive() and service.aborts == []


def test_a_call_is_reported_once(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    with Watchdog(0, ADDRESSES).watching("a training step"):
        for _ in range(4):
            clock.passes(TIMEOUT_S)
    assert len(service.aborts) == 1


def test_a_call_inside_a_call_has_the_deadline_of_the_outer_one(monkeypatch, clock):
    service = use(monkeypatch, Service(waiting=set()))
    watchdog = Watchdog(0, ADDRESSES)
    with watchdog.watching("outer"):
        for _ in range(2):
            with watchdog.watching("inner"):
                clock.passes(TIMEOUT_S / 2)
        (message,) = service.aborts
    assert "waits in outer" in message
    clock.passes(10 * TIMEOUT_S)
    assert len(service.aborts) == 1


def test_workers_count_the_same_calls(monkeypatch, clock):
    # The number of the call is what the watchdogs of two workers have in common.
    service = use(monkeypatch, Service(waiting={1, 2}))
    watchdog = Watchdog(0, ADDRESSES)
    for number in range(3):
        with watchdog.watching("outer"), watchdog.watching("inner"):
            clock.passes(TIMEOUT_S)
        assert service.published[number] == f"tfdist/waiting/{number}/0"
