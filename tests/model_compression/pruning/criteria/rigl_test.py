"""RigL: as many grow as go, by the gradient of all weights."""

import json

import keras
import numpy as np
import pytest
from gradient_pruning_cases import WAYS, Oracle, all_but_smallest, assert_trained, build, fit

from tfdist import model_compression as compression


class Watch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(self.model.get_weights()[0] != 0)


@pytest.mark.parametrize("where", WAYS)
def test_the_masks_of_each_step_are_numpys(where):
    model, watch = build(where), Watch()
    oracle = Oracle(model)
    criterion = compression.RigL(alpha=0.6, frequency=2, end=6)
    schedule = compression.Constant(final=0.5)
    fit(model, compression.prune(model, criterion=criterion, schedule=schedule), watch, epochs=3)
    mask = watch.seen[0]  # at random
    assert mask.sum() == 12
    oracle.kernel = oracle.kernel * mask
    for step in range(1, 10):
        of_kernel, of_bias = oracle.gradients()
        oracle.update(of_kernel * mask, of_bias)
        if step in (2, 4, 6):
            part = 0.6 / 2 * (1 + np.cos(np.pi * step / 6))
            size = np.where(mask, np.abs(oracle.kernel), -1)
            stays = all_but_smallest(size, 12 + int(part * 12))
            grown = all_but_smallest(np.where(stays, np.inf, np.abs(of_kernel)), 12)
            assert step == 6 or (grown & ~mask).any()
            mask, oracle.kernel = grown, oracle.kernel * (grown & mask)
        if step < 9:
            # One that has grown behind this step is still zero.
            np.testing.assert_array_equal(watch.seen[step] & ~mask, False)
            assert (oracle.kernel != 0).sum() == watch.seen[step].sum()
    assert_trained(model, oracle, mask)


def test_sparsity_is_exact_at_each_step_and_it_may_go_on_for_ever():
    model = build()
    criterion = compression.RigL(frequency=1, alpha=0.5)
    pruning = compression.prune(model, criterion, schedule=compression.Constant(0.75))
    kept = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kept.append(pruning.report().pruned[0].zeros)
    )
    fit(model, pruning, look)
    assert kept == [18] * 6
    assert pruning.get_state()["counts"] == [6, 7]


def test_by_name():
    model = build()
    schedule = compression.Constant(final=0.75)
    pruning = compression.prune(model, "rigl", schedule=schedule, allocation="erdos_renyi")
    fit(model, pruning)
    assert pruning.report().sparsity == 0.75
    config = json.loads(json.dumps(pruning.get_config()))["criterion"]
    assert keras.saving.deserialize_keras_object(config).get_config() == {
        "alpha": 0.3,
        "frequency": 100,
        "end": None,
        "seed": 0,
    }


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"structure": compression.Block(2, 1)}, 'it moves single weights: expected structure="w'),
        ({"allocation": "global"}, "its scores cannot be compared between kernels, as Global"),
        ({"schedule": compression.Cubic(0.5, 1, 9)}, "expected a Constant schedule"),
    ],
)
def test_what_it_does_not_go_with(arguments, said):
    with pytest.raises(ValueError, match=f"RigL: .*{said}"):
        compression.prune(build(), criterion="rigl", **arguments)
