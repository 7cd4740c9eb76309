"""Known numbers of the field, by hand."""

from tfdist.gradient_compression import traffic


def test_a_ring_of_four_sends_six_quarters():
    # 3 chunks of a quarter in the reduce-scatter, and 3 in the all-gather.
    assert traffic.all_reduce_bytes(100, 4) == 3 * 25 + 3 * 25


def test_all_gather_sends_its_own_to_each_of_the_others():
    assert traffic.all_gather_bytes(100, 4) == 300


def test_all_to_all_keeps_one_row():
    assert traffic.all_to_all_bytes(100, 4) == 75


def test_alone_nothing_is_sent():
    for collective in (
        traffic.all_reduce_bytes,
        traffic.all_gather_bytes,
        traffic.all_to_all_bytes,
    ):
        assert collective(100, 1) == 0
