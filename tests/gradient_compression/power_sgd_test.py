import math

import compression_cases as cases
import numpy as np
import pytest
import tensorflow as tf

from tfdist.gradient_compression import PowerSGD


def make(rank=2, **arguments):
    return PowerSGD(rank, min_elements=cases.MIN_ELEMENTS, **arguments)


# Cut in two where height + width is least: 3 + 42, 9 + 14 or 18 + 7.
MATRICES = {(3, 3, 2, 7): (9, 14)}


def is_smaller(shape, rank):
    n, m = MATRICES.get(shape, shape)
    return rank * (n + m) < n * m


def oracle_of(n, rank, warm_start=True, seed=0, dtype="float32"):
    """Algorithms 1 and 2 of the paper, with NumPy's QR for its Gram-Schmidt."""
    residuals = [[0.0] * len(cases.SHAPES) for _ in range(n)]
    compressed = [p for p in cases.COMPRESSED if is_smaller(cases.SHAPES[p], rank)]
    shapes = [MATRICES.get(shape, shape) for shape in cases.SHAPES]
    widths = [shapes[p][1] for p in compressed]

    def random_q(step, dtype):
        normal = tf.random.stateless_normal(
            [sum(widths), rank], [seed, step], dtype=dtype, alg="philox"
        )
        return dict(zip(compressed, np.split(normal.numpy(), np.cumsum(widths)[:-1])))

    memory = random_q(0, "float64")

    def oracle(gradients, step):
        means = cases.plain_means(gradients)
        for p in compressed:
            q = memory[p] if warm_start else random_q(step, dtype)[p]
            own = [gradients[r][p] + residuals[r][p] for r in range(n)]
            matrices = [m.reshape(shapes[p]).astype("float64") for m in own]
            basis = np.linalg.qr(np.mean([m @ q for m in matrices], axis=0))[0]
            own_q = [m.T @ basis for m in matrices]
            memory[p] = np.mean(own_q, axis=0)
            means[p] = (basis @ memory[p].T).reshape(means[p].shape).astype(dtype)
            for r in range(n):
                approximation = (basis @ own_q[r].T).reshape(means[p].shape)
                residuals[r][p] = own[r] - approximation
        return means

    return oracle


@pytest.mark.parametrize("rank", [1, 2, 3])
@cases.each_number
def test_training_follows_numpy(n, rank):
    oracle = oracle_of(n, rank, dtype="float64")
    cases.assert_follows(make(rank), oracle, n, "float64", tolerance=1e-9)


def test_without_warm_start_every_step_begins_at_random():
    compressor = make(warm_start=False, seed=5)
    oracle = oracle_of(3, 2, warm_start=False, seed=5, dtype="float64")
    cases.assert_follows(compressor, oracle, 3, "float64", tolerance=1e-9)


@pytest.mark.parametrize("rank", [1, pytest.param(2, marks=pytest.mark.slow), 3])
@cases.each_number
def test_float32_follows_as_far_as_rounding_lets_it(n, rank):
    # Error feedback amplifies rounding: NumPy's float32 is 2e-5 from its float64, too.
    cases.assert_follows(make(rank), oracle_of(n, rank), n, tolerance=1e-3)


@cases.each_number
def test_what_was_applied_and_what_is_left_are_all_there_was(n):
    cases.assert_feeds_errors_back(make(), n)


def test_full_rank_is_no_compression():
    results = cases.assert_follows(make(12), lambda g, step: cases.plain_means(g), 3)
    assert results[0][2] == {}
    assert results[0][3].collectives == ["all_reduce"] * cases.STEPS


def test_a_gradient_of_low_rank_arrives_whole():
    rng = np.random.default_rng(3)
    low = (rng.normal(size=(40, 2)) @ rng.normal(size=(2, 30))).astype("float32")
    compressor = make(2)
    (mean,), _ = compressor.reduce(compressor.init([low]), [tf.constant(low)], cases.Alone())
    np.testing.assert_allclose(mean, low, atol=1e-4)


def test_repeated_steps_find_the_best_approximation():
    rng = np.random.default_rng(4)
    u, s, v = np.linalg.svd(rng.normal(size=(40, 30)), full_matrices=False)
    s = s * 0.7 ** np.arange(30)
    matrix = (u * s) @ v
    compressor = make(2)
    state = compressor.init([matrix])
    for _ in range(30):
        state["residuals"] = [tf.zeros(matrix.shape, tf.float64)]  # the same matrix again
        (mean,), state = compressor.reduce(state, [tf.constant(matrix)], cases.Alone())
    best = math.sqrt((s[2:] ** 2).sum())
    assert np.linalg.norm(mean - matrix) == pytest.approx(best, rel=1e-3)


def test_zero_gradients_are_no_trouble_and_leave_none():
    compressor = make(3)
    zeros = [tf.zeros(shape) for shape in cases.SHAPES]
    state = compressor.init(zeros)
    for _ in range(3):
        means, state = compressor.reduce(state, zeros, cases.Alone())
        for value in [*means, *tf.nest.flatten(state)]:
            assert np.isfinite(value).all()
        assert not any(mean.numpy().any() for mean in means)
    rng = np.random.default_rng(5)
    low = (rng.normal(size=(24, 1)) @ rng.normal(size=(1, 12))).astype("float32")
    applied = 0
    for _ in range(2):
        means, state = compressor.reduce(state, [tf.constant(low), *zeros[1:]], cases.Alone())
        applied += means[0].numpy()
    np.testing.assert_allclose(applied, 2 * low, atol=1e-4)


@pytest.mark.parametrize("magnitude", [1e-25, 1e-12, 1e12])
def test_tiny_and_huge_gradients(magnitude):
    compressor = make(2)
    gradients = [tf.constant(g * magnitude, tf.float32) for g in cases.start()]
    state = compressor.init(gradients)
    for _ in range(3):
        means, state = compressor.reduce(state, gradients, cases.Alone())
    for p in cases.COMPRESSED:
        exact = gradients[p].numpy() / magnitude
        assert np.linalg.norm(means[p].numpy() / magnitude - exact) < 3 * np.linalg.norm(exact)
        assert np.linalg.norm(means[p].numpy() / magnitude) > 0.3 * np.linalg.norm(exact)


def resnet18_shapes():
    """Those of the variant for CIFAR-10, as Keras has them."""
    kernels, width = [(3, 3, 3, 64)], 64
    for wider in (64, 128, 256, 512):
        kernels += [(3, 3, width, wider), (3, 3, wider, wider)]
        kernels += [(1, 1, width, wider)] if wider != width else []
        kernels += [(3, 3, wider, wider)] * 2
        width = wider
    normalization = [(kernel[-1],) for kernel in kernels for _ in ("gamma", "beta")]
    return [*kernels, *normalization, (512, 10), (10,)]


def test_the_papers_ratios_on_resnet18():
    shapes = resnet18_shapes()
    parameters = sum(math.prod(shape) for shape in shapes)
    assert parameters == 11_173_962
    ratios = [4 * parameters / PowerSGD(rank).bytes_per_step(shapes, 2) for rank in (1, 2, 4)]
    assert [round(ratio) for ratio in ratios] == [243, 136, 72]


@pytest.mark.parametrize("warm_start", [True, False])
@cases.each_number
def test_bytes_are_those_that_were_sent(n, warm_start):
    cases.assert_bytes_are_counted(make(warm_start=warm_start), n)


def test_two_messages_whatever_the_number_of_tensors():
    communicator = cases.train(make(), 2, steps=1)[0][3]
    assert communicator.collectives == ["all_reduce", "all_reduce"]
    assert len(communicator.messages[0]) == 1 + len(cases.REST)  # P, and what is not compressed


@pytest.mark.parametrize("warm_start", [True, False])
def test_what_is_not_finite_is_skipped(warm_start):
    cases.assert_skips_what_is_not_finite(make(warm_start=warm_start))


def test_the_first_q_is_the_same_everywhere_and_follows_the_seed():
    def q(compressor):
        return compressor.init(cases.variables())["q"][0].numpy()

    assert q(make(seed=1)).tobytes() == q(make(seed=1)).tobytes()
    assert q(make(seed=1)).tobytes() != q(make(seed=2)).tobytes()


@pytest.mark.parametrize("warm_start", [True, False])
def test_graph_equals_eager(warm_start):
    cases.assert_graph_equals_eager(make(warm_start=warm_start))


def test_bad_input():
    for rank in (0, 1.5):
        with pytest.raises(ValueError, match=r"rank=.*: expected an int of at least 1"):
            PowerSGD(rank)
    with pytest.raises(ValueError, match=r"seed=0.5: expected an int"):
        PowerSGD(2, seed=0.5)
