"""What the collectives are given in tests, and what NumPy says that comes out."""

import ml_dtypes
import numpy as np

DTYPES = {
    name: np.dtype(getattr(ml_dtypes, name, name))
    for name in (
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "int8",
        "uint8",
        "int32",
        "int64",
    )
}


def values(replica, num_replicas, shapes=((), (3,), (0, 4))):
    """A list of arrays: each dtype in each of the shapes, in turn.

    Numbers are small and whole, so that every dtype holds their sums exactly.
    """
    rng = np.random.default_rng(replica)
    return [
        np.asarray(rng.integers(0, 100 // num_replicas, shape)).astype(dtype)
        for shape in shapes
        for dtype in DTYPES.values()
    ]


def rows(replica, num_replicas):
    """Values whose first dimension is the number of replicas."""
    shapes = [(num_replicas, *shape) for shape in ((), (3,), (0, 4))]
    return values(replica, num_replicas, shapes)


def gathered(num_replicas):
    return [np.stack(each) for each in zip(*(values(r, num_replicas) for r in range(num_replicas)))]


def swapped(replica, num_replicas):
    each = zip(*(rows(r, num_replicas) for r in range(num_replicas)))
    return [np.stack([theirs[replica] for theirs in value]) for value in each]


def group_sums(replica, groups):
    members = [r for r, group in enumerate(groups) if group == groups[replica]]
    each = zip(*(values(r, len(groups)) for r in members))
    return [sum(np.asarray(v, "float64") for v in value).astype(value[0].dtype) for value in each]


def extreme_values(replica, num_replicas):
    """Values with signs, infinities and NaN, which a sum of them would not hold."""
    rng = np.random.default_rng(100 + replica)
    lists = []
    for dtype in DTYPES.values():
        whole = np.asarray(rng.integers(-100, 100, (7,)))
        array = (np.abs(whole) if dtype == np.uint8 else whole).astype(dtype)
        if dtype.kind not in "iu":
            array[0] = np.nan if replica == num_replicas - 1 else array[0]
            array[1] = np.nan if replica == 0 else array[1]
            array[2] = -np.inf if replica == 0 else array[2]
            array[3] = np.inf if replica == 0 else array[3]
            array[4] /= 3  # with digits that rounding would take away
        lists.append(array)
    lists.append(np.array([2**62 + 1 + replica, -(2**62) - 1 - replica], "int64"))
    return [*lists, np.zeros((0, 4), "float32"), np.asarray(rng.normal())]


def extremes(num_replicas, op):
    """The maxima or minima of the numbers, or NaN where there is one."""
    replicas = zip(*(extreme_values(r, num_replicas) for r in range(num_replicas)))
    results = []
    for each in replicas:
        stacked = np.stack(each)
        if stacked.dtype.kind in "iu":
            results.append(getattr(stacked, op)(axis=0))
        else:
            wide = stacked.astype("float64")
            results.append(np.asarray(getattr(wide, op)(axis=0)).astype(stacked.dtype))
    return results


def assert_same(found, expected):
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected):
        # A scalar of bfloat16 is no array to TensorFlow.
        value = np.asarray(value.numpy())
        assert value.dtype == wanted.dtype and value.shape == wanted.shape
        np.testing.assert_array_equal(value.astype("float64"), wanted.astype("float64"))
