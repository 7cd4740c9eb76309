import numpy as np
import pytest

from tfdist.arguments import integer, number


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.float32(3), np.array(3), 2**80])
def test_whole_numbers_of_any_type(value):
    found = integer("size", value, least=3)
    assert type(found) is int and found == int(value)


@pytest.mark.parametrize("value", [-1, 0, -(2**70)])
def test_without_a_least_any_will_do(value):
    assert integer("seed", value) == value


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0.5, "3", b"3", [3], np.ones(2), float("nan"), float("inf"), 1j, object()],
)
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match=r"^seed=(.|\n)*: expected an int\.$"):
        integer("seed", value)


def test_the_error_says_what_was_expected():
    with pytest.raises(ValueError, match=r"^size=1: expected an int of at least 2, of a group\.$"):
        integer("size", 1, least=2, meaning="of a group")
    with pytest.raises(ValueError, match=r"^size='x': expected None or an int of at least 0\.$"):
        integer("size", "x", least=0, or_none=True)
    assert integer("size", None, or_none=True) is None


@pytest.mark.parametrize("value", [True, "1", None, -0.1, float("nan"), float("inf")])
def test_what_is_no_number_of_at_least_zero(value):
    with pytest.raises(ValueError, match=r"rate=.*: expected a number of at least 0\."):
        number("rate", value, least=0)


def test_numbers_become_floats():
    assert number("rate", 2, least=0) == 2.0 and isinstance(number("rate", 2, least=0), float)
