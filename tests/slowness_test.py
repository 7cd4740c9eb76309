"""Deadlines grow with the slowness that was measured, and never shrink."""

import pytest
import slowness


@pytest.mark.parametrize(("measured", "factor"), [("0.4", 1), ("1.0", 1), ("2.5", 2.5)])
def test_deadlines_grow(monkeypatch, measured, factor):
    monkeypatch.setenv(slowness.VARIABLE, measured)
    assert slowness.factor() == factor
    assert slowness.seconds(60) == 60 * factor


def test_it_is_measured_once(monkeypatch):
    monkeypatch.setenv(slowness.VARIABLE, "3")
    slowness.measure()
    assert slowness.factor() == 3
    monkeypatch.delenv(slowness.VARIABLE)
    monkeypatch.setattr(slowness, "WORK", "import time; time.sleep(0.3)")
    slowness.measure()
    assert slowness.factor() >= max(1, 0.3 / slowness.REFERENCE_S)


def test_the_time_of_each_test_grows(request):
    if request.config.getoption("timeout") is not None:
        pytest.skip("--timeout is given by hand")
    (seconds,) = request.node.get_closest_marker("timeout").args
    assert seconds == slowness.seconds(float(request.config.getini("timeout")))
