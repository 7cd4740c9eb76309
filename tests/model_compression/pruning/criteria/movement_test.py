"""Movement: scores add up, and weights come back with the value that they had."""

import numpy as np
import pytest
from gradient_pruning_cases import WAYS, Oracle, all_but_smallest, assert_trained, build, fit

from tfdist import model_compression as compression


@pytest.mark.parametrize("where", WAYS)
def test_the_masks_of_each_step_are_numpys(where):
    model = build(where)
    oracle = Oracle(model)
    schedule = compression.Cubic(final=0.5, begin=1, end=6, frequency=1)
    fit(model, compression.prune(model, criterion="movement", schedule=schedule))
    score, mask, whole, came_back = np.zeros((6, 4)), np.ones((6, 4), bool), oracle.kernel, 0
    for step, sparsity in schedule.updates():
        of_kernel, of_bias = oracle.gradients()
        score -= of_kernel * whole
        oracle.update(of_kernel * mask, of_bias)
        whole = np.where(mask, oracle.kernel, whole)
        before, mask = mask, all_but_smallest(score, round(sparsity * 24))
        came_back += (mask & ~before).sum()
        oracle.kernel = whole * mask
        assert step == oracle.step
    assert came_back > 0
    assert_trained(model, oracle, mask)


def test_two_of_four_goes_by_scores_that_may_be_negative():
    model = build()
    model.get_layer("dense")
    pruning = compression.prune(model, criterion="movement", structure=compression.NM(1, 3))
    fit(model, pruning)
    zeros = (model.get_weights()[0] == 0).reshape(2, 3, 4)
    np.testing.assert_array_equal(zeros.sum(1), 2)


def test_what_it_does_not_go_with():
    with pytest.raises(ValueError, match="Movement: its scores may be negative, and LAMP squares"):
        compression.prune(build(), criterion="movement", allocation="lamp")
