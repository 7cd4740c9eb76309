"""SNIP: the first step looks, and training begins behind it."""

import numpy as np
import pytest
from gradient_pruning_cases import WAYS, Oracle, all_but_smallest, assert_trained, build, fit

from tfdist import model_compression as compression


@pytest.mark.parametrize("where", WAYS)
def test_masks_are_set_before_any_update(where):
    model = build(where)
    oracle = Oracle(model)
    schedule = compression.Constant(final=0.75)
    pruning = compression.prune(model, criterion="snip", schedule=schedule, allocation="global")
    fit(model, pruning, epochs=1)
    mask = all_but_smallest(np.abs(oracle.gradients()[0] * oracle.kernel), 18)
    oracle.kernel, oracle.step = oracle.kernel * mask, 1
    for _ in range(2):
        of_kernel, of_bias = oracle.gradients()
        oracle.update(of_kernel * mask, of_bias)
    assert_trained(model, oracle, mask)


def test_scores_add_up_to_one():
    values = [np.array([[1.0, -2.0]]), np.array([[3.0]])]
    criterion = compression.SNIP()
    scores = criterion.scores(values, 0, [[abs(value)] for value in values])
    found = np.concatenate([score.numpy().ravel() for score in scores])
    np.testing.assert_allclose(found, [1 / 6, 1 / 3, 1 / 2])
