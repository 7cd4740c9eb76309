import numpy as np
import pytest

from tfdist.model_compression import Constant, Cubic


def test_it_is_the_papers_equation():
    schedule = Cubic(final=0.9, begin=50, end=1050, initial=0.2, frequency=100)
    steps = np.arange(50, 1051, 100)
    expected = 0.9 + (0.2 - 0.9) * (1 - (steps - 50) / 1000) ** 3
    found = np.array(schedule.updates())
    np.testing.assert_array_equal(found[:, 0], steps)
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-11)


def test_the_last_change_is_at_the_end():
    assert Cubic(0.5, begin=0, end=10, frequency=4).updates()[-1] == (10, 0.5)
    assert [step for step, _ in Cubic(0.5, 0, 10, frequency=4).updates()] == [0, 4, 8, 10]


def test_frequency_by_itself():
    assert Cubic(0.5, 0, 2000).frequency == 100
    assert Cubic(0.5, 0, 50).frequency == 5
    assert Cubic(0.5, 0, 3).frequency == 1


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Constant(1.0), "final=1.0: expected a part of the weights"),
        (lambda: Constant("half"), "final='half': expected a part of the weights"),
        (lambda: Constant(0.5, begin=-1), "begin=-1"),
        (lambda: Cubic(0.5, begin=10, end=10), "end=10"),
        (lambda: Cubic(0.5, 0, 10, initial=0.6), "initial=0.6 is larger than final=0.5"),
        (lambda: Cubic(0.5, 0, 10, frequency=0), "frequency=0"),
    ],
)
def test_what_is_no_schedule(make, said):
    with pytest.raises(ValueError, match=said):
        make()
