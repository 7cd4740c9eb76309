import numpy as np
import pytest
import tensorflow as tf

from tfdist.gradient_compression.orthogonalization import Segments

ROWS = [40, 7, 300]
RANK = 4
ACCURACY = {"float32": 1e-5, "float64": 1e-12}
rng = np.random.default_rng(0)


def bases_of(matrices, dtype):
    columns = tf.constant(np.concatenate(matrices), dtype)
    basis = Segments([len(m) for m in matrices]).orthonormal(columns).numpy()
    assert basis.dtype == dtype
    return np.split(basis, np.cumsum([len(m) for m in matrices])[:-1])


def assert_orthonormal(basis, dtype):
    error = basis.T.astype("float64") @ basis - np.eye(basis.shape[1])
    assert np.abs(error).max() < ACCURACY[dtype]


both = pytest.mark.parametrize("dtype", ACCURACY)


@both
def test_the_basis_spans_what_numpys_qr_spans(dtype):
    matrices = [rng.normal(size=(rows, RANK)) * 10.0**i for i, rows in enumerate(ROWS)]
    for matrix, basis in zip(matrices, bases_of(matrices, dtype)):
        assert_orthonormal(basis, dtype)
        q = np.linalg.qr(matrix)[0]
        np.testing.assert_allclose(basis @ basis.T, q @ q.T, atol=2e-5)


@both
def test_columns_that_depend_on_each_other_are_completed(dtype):
    matrices = [rng.normal(size=(rows, 1)) @ rng.normal(size=(1, RANK)) for rows in ROWS]
    for matrix, basis in zip(matrices, bases_of(matrices, dtype)):
        assert_orthonormal(basis, dtype)
        np.testing.assert_allclose(basis @ (basis.T @ matrix), matrix, atol=1e-4)


@both
@pytest.mark.parametrize("condition", [1e3, 1e6, 1e9])
def test_nearly_dependent_columns_become_orthogonal(dtype, condition):
    matrices = []
    for rows in ROWS:
        u, _, v = np.linalg.svd(rng.normal(size=(rows, RANK)), full_matrices=False)
        matrices.append((u * condition ** -np.linspace(0, 1, RANK)) @ v)
    for basis in bases_of(matrices, dtype):
        assert_orthonormal(basis, dtype)


@both
def test_zero_matrices_have_a_basis_without_zeros(dtype):
    matrices = [np.zeros((rows, RANK)) for rows in ROWS]
    for basis in bases_of(matrices, dtype):
        assert_orthonormal(basis, dtype)
        assert (np.abs(basis) > 0).mean() > 0.99


@both
def test_some_columns_may_be_zero(dtype):
    matrices = [rng.normal(size=(rows, RANK)) * [1, 0, 1, 0] for rows in ROWS]
    for matrix, basis in zip(matrices, bases_of(matrices, dtype)):
        assert_orthonormal(basis, dtype)
        np.testing.assert_allclose(basis @ (basis.T @ matrix), matrix, atol=1e-4)


@pytest.mark.parametrize("magnitude", [1e-30, 1e-20, 1e20, 1e30])
def test_no_square_vanishes_or_overflows(magnitude):
    matrices = [rng.normal(size=(rows, RANK)) * magnitude for rows in ROWS]
    for matrix, basis in zip(matrices, bases_of(matrices, "float32")):
        assert_orthonormal(basis, "float32")
        q = np.linalg.qr(matrix)[0]
        np.testing.assert_allclose(basis @ basis.T, q @ q.T, atol=2e-5)


def test_unit_columns():
    columns = np.concatenate([rng.normal(size=(5, 2)), np.zeros((3, 2)), rng.normal(size=(4, 2))])
    unit = Segments([5, 3, 4]).unit(tf.constant(columns)).numpy()
    np.testing.assert_allclose(unit[:5], columns[:5] / np.linalg.norm(columns[:5], axis=0))
    assert not unit[5:8].any()
    np.testing.assert_allclose(unit[8:], columns[8:] / np.linalg.norm(columns[8:], axis=0))
