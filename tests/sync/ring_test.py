import ml_dtypes
import numpy as np
import pytest
from rings import on_workers


def values(worker, shapes, dtype):
    rng = np.random.default_rng(worker)
    return [np.asarray(100 * rng.normal(size=shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("elements", [1, 7, 40_001])  # by both ways
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "float16"])
def test_sums_are_numpys_and_the_same_bits_everywhere(size, elements, dtype):
    shapes = [(elements,), (), (2, 3), (0, 4)]
    results = on_workers(size, lambda ring: ring.all_reduce(values(ring.index, shapes, dtype)))
    everyones = [values(worker, shapes, dtype) for worker in range(size)]
    exact = [sum(np.asarray(v, "float64") for v in each) for each in zip(*everyones)]
    largest = [sum(np.abs(np.asarray(v, "float64")) for v in each) for each in zip(*everyones)]
    for result in results:
        assert not isinstance(result, Exception), result
        for found, same, total, bound in zip(result, results[0], exact, largest):
            assert found.dtype == dtype and found.shape == total.shape
            assert found.tobytes() == same.tobytes()
            # Each addition rounds by half a unit of what it adds up, at most.
            rounding = 0 if dtype.startswith("int") else np.finfo(dtype).eps * size
            assert (np.abs(found.astype("float64") - total) <= rounding * bound).all()


@pytest.mark.parametrize("elements", [7, 40_001])  # by both ways
@pytest.mark.parametrize("op", ["max", "min"])
def test_extremes_are_numpys(elements, op):
    def own(worker):
        first, second = values(worker, [(elements,), ()], "float32")
        first[worker] = np.nan
        return [first, second]

    results = on_workers(3, lambda ring: ring.all_reduce(own(ring.index), op=op))
    expected = [getattr(np.stack(each), op)(axis=0) for each in zip(*map(own, range(3)))]
    assert np.isnan(expected[0]).sum() == 3
    for result in results:
        for found, same, wanted in zip(result, results[0], expected):
            np.testing.assert_array_equal(found, wanted)
            assert found.tobytes() == same.tobytes()


def test_workers_that_reduce_in_other_ways_are_noticed():
    def program(ring):
        return ring.all_reduce([np.ones(3)], op=["sum", "max"][ring.index])

    for error in on_workers(2, program):
        assert isinstance(error, ConnectionError) and "makes a different call" in str(error)


def test_bfloat16():
    one = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    for (result,) in on_workers(2, lambda ring: ring.all_reduce([one])):
        np.testing.assert_array_equal(result.astype("float32"), [3.0, -4.0])


def test_infinities_and_nans_arrive():
    def program(ring):
        return ring.all_reduce([np.array([np.inf, np.inf, np.nan, 3e38], "float32")])[0]

    for result in on_workers(2, program):
        np.testing.assert_array_equal(result, np.array([np.inf, np.inf, np.nan, np.inf]))


def test_arguments_are_left_alone():
    def program(ring):
        mine = np.ones(20_000)
        ring.all_reduce([mine])
        return mine.sum()

    assert on_workers(3, program) == [20_000.0] * 3


@pytest.mark.parametrize("size", [2, 4])
def test_gathering_rows(size):
    def rows(worker):
        return [np.full((worker, 3), worker, "float32"), np.arange(worker, dtype="int64")]

    for result in on_workers(size, lambda ring: ring.all_gather(rows(ring.index))):
        for worker, arrays in enumerate(result):
            for found, expected in zip(arrays, rows(worker)):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [2, 3])
def test_bytes_sent(size):
    def program(ring):
        ring.all_reduce([np.ones(300_000, "float32")])
        return ring.bytes_sent

    payload, framing = 2 * (size - 1) / size * 1_200_000, 2 * (size - 1) * 20
    for sent in on_workers(size, program):
        assert abs(sent - payload - framing) <= 64  # alignment


# -- exchanges, and sums over groups ---------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_to_all_gives_each_worker_its_arrays(size):
    def sent(source, target):
        rng = np.random.default_rng(100 * source + target)
        shapes = [(3,), (), (0, 2), (40_001,)]
        dtypes = ["int8", ml_dtypes.bfloat16, "float32", "float64"]
        return [np.asarray(9 * rng.normal(size=s)).astype(d) for s, d in zip(shapes, dtypes)]

    def program(ring):
        return ring.all_to_all([sent(ring.index, target) for target in range(size)])

    for target, results in enumerate(on_workers(size, program)):
        assert not isinstance(results, Exception), results
        assert len(results) == size
        for source, arrays in enumerate(results):
            for found, expected in zip(arrays, sent(source, target)):
                assert found.dtype == expected.dtype and found.shape == expected.shape
                assert found.tobytes() == expected.tobytes()


def test_all_to_all_sends_each_worker_its_own_alone():
    def program(ring):
        ring.all_to_all([[np.ones(1000, "float32")]] * 3)
        return ring.bytes_sent

    assert on_workers(3, program) == [2 * (4000 + 20)] * 3


def test_workers_that_swap_other_shapes_are_noticed():
    def program(ring):
        return ring.all_to_all([[np.ones(3 + ring.index)]] * 2)

    for error in on_workers(2, program):
        assert isinstance(error, ConnectionError) and "makes a different call" in str(error)


@pytest.mark.parametrize("elements", [7, 40_001])  # by both ways
@pytest.mark.parametrize("groups", ["AAAA", "ABAB", "ABBA", "AAAB", "ABCD"])
def test_groups_sum_by_themselves(groups, elements):
    shapes = [(elements,), ()]

    def program(ring):
        members = [i for i, group in enumerate(groups) if group == groups[ring.index]]
        return [*ring.all_reduce(values(ring.index, shapes, "float64"), members), ring.bytes_sent]

    results = on_workers(4, program)
    for worker, (found, scalar, sent) in enumerate(results):
        members = [i for i, group in enumerate(groups) if group == groups[worker]]
        sums = [sum(each) for each in zip(*(values(i, shapes, "float64") for i in members))]
        np.testing.assert_allclose(found, sums[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(scalar, sums[1], rtol=1e-12, atol=1e-12)
        assert found.tobytes() == results[members[0]][0].tobytes()
        assert (sent == 0) == (len(members) == 1)  # who is alone sends nothing


def test_groups_may_change_from_call_to_call():
    def program(ring):
        total = np.ones(3)
        for members in ([0, 1], [0, 1, 2], [1, 2], [0, 2]):
            if ring.index not in members:
                members = [ring.index]
            (total,) = ring.all_reduce([total], members)
            total = total.copy()
        return total.tolist()

    # 1 1 1, then 2 2 1, 5 5 5, 5 10 10, 15 10 15.
    assert on_workers(3, program) == [[15.0] * 3, [10.0] * 3, [15.0] * 3]


def test_a_worker_that_is_lost_is_named_within_its_group():
    def program(ring):
        if ring.index == 1:
            return None  # closes its connections
        members = [0, 1] if ring.index == 0 else [2, 3]
        return ring.all_reduce([np.ones(3)], members)[0].tolist()

    lost, _, *others = on_workers(4, program)
    assert isinstance(lost, ConnectionResetError) and "worker 1 was lost" in str(lost)
    assert others == [[2.0] * 3] * 2  # who does not need it does not notice
