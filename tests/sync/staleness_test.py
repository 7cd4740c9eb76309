import random

import pytest

from tfdist.sync.staleness import StalenessBound, StalenessLog


@pytest.mark.parametrize("bound", [0, 1, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_no_order_of_events_passes_the_bound(bound, seed):
    # Workers read and apply whenever they like, and the coordinator hears of it late.
    dice = random.Random(seed)
    guard, out, number, version, worst = StalenessBound(bound), {}, 0, 0, 0
    for _ in range(2000):
        step = dice.choice(list(out)) if out else None
        event = dice.random()
        if event < 0.4 and guard.may_hand_out() and len(out) < 8:
            guard.hand_out(number)
            out[number] = "waits"
            number += 1
        elif step is not None and out[step] == "waits":
            out[step] = version  # it reads
        elif step is not None and out[step] != "applied":
            worst = max(worst, version - out[step])
            version += 1
            out[step] = "applied"
        elif step is not None and event > 0.8:
            guard.finish(step)
            del out[step]
    assert version > 100
    assert worst <= bound
    if bound:
        assert worst > 0


def test_without_a_bound_any_number_may_be_out():
    guard = StalenessBound()
    for number in range(100):
        assert guard.may_hand_out()
        guard.hand_out(number)


def test_the_log_counts_by_buckets_and_in_total():
    total = {}
    log = StalenessLog(total)
    for staleness in (0, 0, 1, 3, 8, 400):
        log.add(staleness)
    logs = log.logs(histogram=True)
    assert logs["staleness_mean"] == pytest.approx(412 / 6)
    assert logs["staleness_max"] == 400
    buckets = ("0", "1", "2_3", "4_7", "8_15", "16_or_more")
    assert [logs[f"staleness_{name}"] for name in buckets] == [2, 1, 1, 0, 1, 1]
    assert total == {0: 2, 1: 1, 3: 1, 8: 1, 400: 1}
    assert set(log.logs()) == {"staleness_mean", "staleness_max"}
    assert StalenessLog().logs() == {"staleness_mean": 0.0, "staleness_max": 0.0}
