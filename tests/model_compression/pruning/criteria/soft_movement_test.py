"""Soft movement: scores are trained with a penalty, and a threshold says what stays."""

import numpy as np
import pytest
from gradient_pruning_cases import WAYS, Oracle, assert_trained, build, fit

from tfdist import model_compression as compression


@pytest.mark.parametrize("where", WAYS)
def test_scores_and_masks_are_numpys(where):
    model = build(where)
    oracle = Oracle(model)
    criterion = compression.SoftMovement(penalty=0.5, learning_rate=0.8)
    schedule = compression.Cubic(final=0.4, begin=1, end=6, frequency=1)
    pruning = compression.prune(model, criterion=criterion, schedule=schedule)
    fit(model, pruning)
    score, mask, whole = np.zeros((6, 4)), np.ones((6, 4), bool), oracle.kernel
    for _, threshold in schedule.updates():
        of_kernel, of_bias = oracle.gradients()
        chance = 1 / (1 + np.exp(-score))
        score -= 0.8 * (of_kernel * whole + 0.5 * chance * (1 - chance))
        oracle.update(of_kernel * mask, of_bias)
        whole = np.where(mask, oracle.kernel, whole)
        mask = 1 / (1 + np.exp(-score)) > threshold
        oracle.kernel = whole * mask
    assert 0 < mask.sum() < 24
    assert_trained(model, oracle, mask)
    assert pruning.report().sparsity == 1 - mask.mean()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"schedule": compression.Constant(0.9)}, "threshold, not of the sparsity.* received 0.9"),
        ({"structure": compression.NM(1, 3)}, "it has no exact sparsity, and NM has no other"),
        ({"allocation": "erdos_renyi"}, 'expected allocation="uniform"'),
    ],
)
def test_what_it_does_not_go_with(arguments, said):
    with pytest.raises(ValueError, match=said):
        compression.prune(build(), criterion="soft_movement", **arguments)


def test_arguments_and_configuration():
    with pytest.raises(ValueError, match="penalty=0: expected a number above 0"):
        compression.SoftMovement(penalty=0)
    criterion = compression.SoftMovement(2, learning_rate=0.5)
    assert compression.SoftMovement.from_config(criterion.get_config()).penalty == 2.0
