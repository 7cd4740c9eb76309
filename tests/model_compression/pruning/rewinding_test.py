"""Weights that stay go back to an early step, and training goes on from there."""

import keras
import numpy as np
import pytest
from gradient_pruning_cases import BATCH, WAYS, X, Y, build, fit

import tfdist
from tfdist import model_compression as compression


def plain_of_two_steps(mask):
    """An unpruned model behind two steps, masked then."""
    model = build(optimizer=keras.optimizers.Adam)
    model.fit(X[: 2 * BATCH], Y[: 2 * BATCH], BATCH, shuffle=False, verbose=0)
    model.layers[0].kernel.assign(model.layers[0].kernel * mask)
    return model


@pytest.mark.parametrize("where", WAYS)
def test_a_rewound_training_is_that_of_the_ticket(where):
    model = build(where, keras.optimizers.Adam)
    schedule = compression.Constant(final=0.5, begin=6)
    pruning = compression.prune(model, schedule=schedule, rewind_to=2)
    fit(model, pruning)
    mask = model.get_weights()[0] != 0
    pruning.rewind()
    plain = plain_of_two_steps(mask)
    for one, other in zip(model.variables, plain.variables):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-12)
    for one, other in zip(model.optimizer.variables, plain.optimizer.variables):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-12)
    fit(model, pruning)
    fit(plain, compression.prune(plain))  # which holds the zeros
    for one, other in zip(model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-9)
    np.testing.assert_array_equal(model.get_weights()[0] != 0, mask)


def test_to_the_very_beginning():
    model = build(optimizer=keras.optimizers.Adam)
    begin = model.get_weights()
    pruning = compression.prune(model, schedule=compression.Constant(0.5), rewind_to=0)
    fit(model, pruning)
    mask = model.get_weights()[0] != 0
    pruning.rewind()
    np.testing.assert_array_equal(model.get_weights()[0], begin[0] * mask)
    assert int(model.optimizer.iterations.numpy()) == 0
    assert not any(np.any(v.numpy()) for v in model.optimizer.variables[2:])


def test_a_checkpoint_keeps_them(tmp_path):
    found = []
    for epochs in (1, 2):  # the second one is resumed behind step 3
        model = build()
        pruning = compression.prune(model, schedule=compression.Constant(0.5), rewind_to=2)
        fit(model, pruning, tfdist.callbacks.Checkpoint(tmp_path), epochs=epochs)
        pruning.rewind()
        found.append(model.get_weights())
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="rewind_to=-1: expected None or an int of at least 0"):
        compression.prune(build(), rewind_to=-1)
    with pytest.raises(ValueError, match=r"no early weights were kept.* pass `rewind_to=`"):
        compression.prune(build()).rewind()
    with pytest.raises(ValueError, match=r"no early weights were kept.* call `fit` first"):
        compression.prune(build(), rewind_to=1).rewind()
    model = build(steps_per_execution=2)
    with pytest.raises(ValueError, match=r"rewind_to=1: .* `fit` ran on to step 2.*execution ends"):
        fit(model, compression.prune(model, rewind_to=1))
    model = build("two replicas")
    with pytest.raises(ValueError, match="rewind_to=1 under LocalSGD: each replica has weights of"):
        fit(model, compression.prune(model, rewind_to=1), tfdist.callbacks.LocalSGD(period=2))
