"""Taylor: the square of the global gradient times the weight, added up over steps."""

import numpy as np
import pytest
from gradient_pruning_cases import WAYS, Oracle, all_but_smallest, assert_trained, build, fit

from tfdist import model_compression as compression


@pytest.mark.parametrize("where", WAYS)
def test_scores_and_masks_are_numpys(where):
    model = build(where)
    oracle, total = Oracle(model), np.zeros((6, 4))
    schedule = compression.Constant(final=0.5, begin=4)
    pruning = compression.prune(model, criterion="taylor", schedule=schedule)
    fit(model, pruning, epochs=1)
    for _ in range(3):
        of_kernel, of_bias = oracle.gradients()
        total += (of_kernel * oracle.kernel) ** 2
        oracle.update(of_kernel, of_bias)
    for (state,) in pruning._masks._state:  # each replica's: squared after they were reduced
        for value in getattr(state, "values", (state,)):
            np.testing.assert_allclose(value.numpy(), total, rtol=1e-12)
    fit(model, pruning, epochs=1)
    of_kernel, of_bias = oracle.gradients()
    total += (of_kernel * oracle.kernel) ** 2
    oracle.update(of_kernel, of_bias)
    mask = all_but_smallest(total, 12)
    oracle.kernel *= mask
    for _ in range(2):
        of_kernel, of_bias = oracle.gradients()
        oracle.update(of_kernel * mask, of_bias)
    assert_trained(model, oracle, mask)


def test_contributions_of_a_block_are_added_up_before_they_are_squared():
    model = build("two replicas")
    oracle = Oracle(model)
    pruning = compression.prune(
        model,
        criterion="taylor",
        structure=compression.Block(3, 1),
        schedule=compression.Constant(final=0.5, begin=3),
    )
    fit(model, pruning, epochs=1)
    total = np.zeros((2, 4))
    for _ in range(3):
        of_kernel, of_bias = oracle.gradients()
        total += (of_kernel * oracle.kernel).reshape(2, 3, 4).sum(1) ** 2
        oracle.update(of_kernel, of_bias)
    mask = np.repeat(all_but_smallest(total, 4), 3, axis=0)
    oracle.kernel *= mask
    assert_trained(model, oracle, mask)


def test_sums_begin_anew_behind_each_change():
    model = build()
    pruning = compression.prune(
        model, criterion="taylor", schedule=compression.Cubic(0.5, begin=1, end=3, frequency=1)
    )
    fit(model, pruning, epochs=1)
    (state,) = pruning.get_state()["criterion"]
    assert not state.any()
