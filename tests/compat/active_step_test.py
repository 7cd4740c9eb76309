import threading

import pytest

from tfdist.compat import active_step


def test_the_innermost_step_is_the_current_one():
    assert active_step.current() is None
    with active_step.activate("outer") as outer:
        assert outer == active_step.current() == "outer"
        with active_step.activate("inner"):
            assert active_step.current() == "inner"
        assert active_step.current() == "outer"
    assert active_step.current() is None


def test_an_error_ends_it():
    with pytest.raises(KeyError):
        with active_step.activate("step"):
            raise KeyError
    assert active_step.current() is None


def test_each_thread_has_its_own():
    seen = []
    with active_step.activate("here"):
        thread = threading.Thread(target=lambda: seen.append(active_step.current()))
        thread.start()
        thread.join(20)
    assert seen == [None]
