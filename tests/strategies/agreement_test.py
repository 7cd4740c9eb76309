import itertools
import threading
import time

import pytest
import slowness

from tfdist.strategies import agreement

ADDRESSES = ["host0:1", "host1:1", "host2:1"]
DEADLINE_S = slowness.seconds(20.0)


class Store:
    """The coordination service's key-value store, in memory."""

    def __init__(self):
        self._values = {}
        self._changed = threading.Condition()

    def put(self, key, value):
        with self._changed:
            assert key not in self._values, f"{key} is published twice"
            self._values[key] = value
            self._changed.notify_all()

    def get(self, key, timeout):
        with self._changed:
            self._changed.wait_for(lambda: key in self._values, timeout)
            return self._values.get(key)


class RoundsOfThread(threading.local):
    """Counts for each thread: in the tests a thread stands for a worker's process."""

    def __init__(self):
        self._count = itertools.count()

    def __next__(self):
        return next(self._count)


@pytest.fixture(autouse=True)
def service(monkeypatch):
    store = Store()
    monkeypatch.setattr(agreement.coordination, "put", store.put)
    monkeypatch.setattr(agreement.coordination, "get", store.get)
    monkeypatch.setattr(agreement, "_rounds", RoundsOfThread())


def on_workers(program, workers=range(3)):
    """Runs `program(index)` on a thread for each worker; what each raised, or None."""
    outcomes = {}

    def run(index):
        try:
            program(index)
            outcomes[index] = None
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(outcomes) == list(workers), "a worker still waits"
    return outcomes


def agree(index, what="`fit`", timeout=DEADLINE_S, **facts):
    agreement.agree(what, facts, index, ADDRESSES, timeout)


def only_error(outcomes):
    """The error that all workers raise alike."""
    texts = {(type(error), str(error)) for error in outcomes.values()}
    assert len(texts) == 1, texts
    return texts.pop()


def test_equal_facts_pass_again_and_again():
    def program(index):
        for batches in range(3):
            agree(index, variables=["(2, 3) float32", "(3,) float32"], batches=batches)

    assert on_workers(program) == dict.fromkeys(range(3))


def test_tuples_and_lists_are_the_same():
    # What one worker holds as a tuple comes back from the others as a list.
    assert on_workers(lambda index: agree(index, shape=(2, (3, 4)))) == dict.fromkeys(range(3))


@pytest.mark.parametrize("odd", [1, 2])
def test_a_different_scalar_is_named(odd):
    kind, text = only_error(on_workers(lambda index: agree(index, batches=7 - (index == odd))))
    assert kind is RuntimeError
    assert f"worker {odd} ({ADDRESSES[odd]}) is not doing what the chief (host0:1) does" in text
    assert "in `fit`: batches is 6 there and 7 on the chief" in text


def test_a_different_item_of_a_list_is_named():
    shapes = ["(2, 3)", "(3,)", "(3, 1)"]

    def program(index):
        agree(index, variable=shapes if index != 2 else [*shapes[:2], "(3, 5)"])

    kind, text = only_error(on_workers(program))
    assert kind is RuntimeError
    assert "worker 2 (host2:1)" in text
    assert "variable 2 is (3, 5) there and (3, 1) on the chief" in text


def test_a_longer_list_is_named():
    kind, text = only_error(on_workers(lambda index: agree(index, variable=[1] * (3 + index // 2))))
    assert kind is RuntimeError
    assert "worker 2 (host2:1)" in text and "it has 4 variable, the chief 3" in text


def test_facts_that_the_chief_does_not_have_are_a_difference():
    def program(index):
        agree(index, **({"seed": 1} if index == 1 else {}))

    kind, text = only_error(on_workers(program))
    assert kind is RuntimeError
    assert "worker 1 (host1:1)" in text and "seed" in text


def test_a_worker_that_does_something_else_is_named():
    def program(index):
        agree(index, what="`fit`" if index != 1 else "barrier 'saved'")

    for index, error in on_workers(program).items():
        assert type(error) is RuntimeError
        assert "worker 1 (host1:1)" in str(error)
        assert "what is barrier 'saved' there and `fit` on the chief" in str(error)
        assert f"in {'`fit`' if index != 1 else 'barrier '}" in str(error)


@pytest.mark.parametrize("absent", [0, 2])
def test_a_missing_worker_is_named(absent):
    present = [index for index in range(3) if index != absent]
    began = time.monotonic()
    kind, text = only_error(on_workers(lambda index: agree(index, timeout=0.3), present))
    assert time.monotonic() - began >= 0.3
    assert kind is TimeoutError
    assert f"worker {absent} ({ADDRESSES[absent]}) did not come to `fit` within 0.3 s" in text
    assert "TFDIST_TIMEOUT" in text
    assert not any(ADDRESSES[index] in text for index in present)


def test_the_timeout_comes_from_the_environment(monkeypatch):
    assert agreement.agreement_timeout() >= 60
    monkeypatch.setenv("TFDIST_TIMEOUT", "0.2")
    outcomes = on_workers(lambda index: agree(index, timeout=None), [0, 1])
    assert "worker 2 (host2:1) did not come to `fit` within 0.2 s" in only_error(outcomes)[1]


def test_exchange_returns_what_each_worker_said():
    said = {}

    def program(index):
        said[index] = agreement.exchange("saving", {"number": index}, index, ADDRESSES, DEADLINE_S)

    assert set(on_workers(program).values()) == {None}
    assert all([one["number"] for one in said[index]] == [0, 1, 2] for index in range(3))


def test_exchange_between_workers_that_do_different_things_fails_on_all():
    def program(index):
        what = "saving" if index else "a barrier"
        agreement.exchange(what, {}, index, ADDRESSES, DEADLINE_S)

    for error in on_workers(program).values():
        assert "what is saving there and a barrier on the chief" in str(error)
