"""A gradient-sync callback beside what else a training has.

What local algorithms are compared with are plain Keras models, one a replica, and the
papers' equations in NumPy between their steps (`plain_replicas`); what synchronous ones
are compared with is one plain Keras model on the whole batches.
"""

import warnings

import numpy as np
import plain_replicas
import pytest
import tensorflow as tf
from gradient_sync_features import EPOCHS, FEATURES
from upstream import two_cpus

from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync, SyncSGD
from tfdist.compat import strategy as engine

# With its oracle; None is the single process.
CALLBACKS = {
    "LocalSGD": (lambda: LocalSGD(3), lambda model: plain_replicas.LocalSgd(3)),
    "DiLoCo": (lambda: DiLoCo(3), lambda model: plain_replicas.Diloco(3)),
    "streaming DiLoCo": (
        lambda: DiLoCo(4, fragments=2),
        lambda model: plain_replicas.Diloco(4, in_two_parts(model)),
    ),
    "PartialSync": (lambda: PartialSync(2, 4), None),
    "SyncSGD": (lambda: SyncSGD(), None),
}
# Together they take minutes, so the quick ones are such that have caught something, or
# that reach code that no other one does.
QUICK = [
    ("LocalSGD", "four steps an execution"),
    ("LocalSGD", "global clipnorm"),
    ("LocalSGD", "ema that overwrites"),
    ("LocalSGD", "mixed float16 where one replica overflows"),
    ("LocalSGD", "gradient accumulation"),
    ("LocalSGD", "jit compile"),
    ("LocalSGD", "run eagerly"),
    ("LocalSGD", "two optimizers"),
    ("LocalSGD", "embedding"),
    ("streaming DiLoCo", "ema"),
    ("DiLoCo", "batch normalization"),
    ("PartialSync", "mixed float16 where one replica overflows"),
    ("SyncSGD", "masked loss"),
    ("SyncSGD", "a replica without examples"),
]


def in_two_parts(model):
    """Indices of the variables of two parts that are as equal in size as runs can be."""
    sizes = [np.prod(v.shape) for v in model.trainable_variables]
    cut = min(range(1, len(sizes)), key=lambda i: abs(sum(sizes[:i]) - sum(sizes[i:])))
    return [range(cut), range(cut, len(sizes))]


def single_process(training, validation, dense=False):
    model = training.make()
    if dense:  # Keras squares each occurrence of a row in a sparse gradient by itself
        apply = model.optimizer.apply
        model.optimizer.apply = lambda gradients, variables: apply(
            [tf.convert_to_tensor(gradient) for gradient in gradients], variables
        )
    found, loss = {"loss": [], "val_loss": []}, plain_replicas.EpochLoss()
    for _ in range(EPOCHS):
        for batch in training.batches():
            loss.train(model, batch)
        found["loss"].append(loss.take())
        found["val_loss"].append(plain_replicas.loss_of(model, validation))
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return {**found, "weights": plain_replicas.floats(model)}


def assert_replicas_equal(model):
    for variable in [*model.variables, *model.optimizer.variables]:
        first, second = engine.local_components(variable.value)
        assert first.numpy().tobytes() == second.numpy().tobytes(), variable.path


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        pytest.param(callback, name, marks=[] if (callback, name) in QUICK else pytest.mark.slow)
        for callback in CALLBACKS
        for name in FEATURES
    ],
)
def test_feature_with_callback(callback, name):
    make_callback, make_oracle = CALLBACKS[callback]
    training = FEATURES[name]()
    validation = training.arrays[:2]
    if make_oracle is None:
        if training.layers_differ:
            pytest.skip("layers that look at a whole batch differ from one process")
        if (callback, name) == ("PartialSync", "masked loss"):
            pytest.skip("each replica divides by its own count, which the limits say")
        expected = single_process(training, validation, dense=callback == "PartialSync")
    else:
        oracle = make_oracle(training.make())
        expected = plain_replicas.train(
            training.make, oracle, training.batches(), EPOCHS, validation
        )
    model = training.make(two_cpus())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")
        history = model.fit(
            **training.arguments(), epochs=EPOCHS, verbose=0, validation_data=validation,
            callbacks=[make_callback()],
        ).history  # fmt: skip
    assert_replicas_equal(model)
    tolerance = {"rtol": training.tolerance, "atol": training.tolerance}
    for key in ("loss", "val_loss"):
        np.testing.assert_allclose(history[key], expected[key], err_msg=key, **tolerance)
    found = plain_replicas.floats(model)
    assert len(found) == len(expected["weights"])
    for number, (mine, theirs) in enumerate(zip(found, expected["weights"])):
        np.testing.assert_allclose(mine, theirs, err_msg=f"weight {number}", **tolerance)
