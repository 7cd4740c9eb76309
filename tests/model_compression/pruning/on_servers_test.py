"""Pruning with parameter servers: exact whenever no step is out, and in a file."""

import sys

import cloudpickle
import numpy as np
import pytest
import slowness

import tfdist

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def train():
    """For each way: zeros of the kernels where none is out, and the weights in the end."""
    import keras

    import tfdist

    compression, found = tfdist.model_compression, {}
    random = np.random.default_rng(0)
    x = random.normal(size=(64, 6)).astype("float32")
    y = random.normal(size=(64, 3)).astype("float32")
    strategy = tfdist.auto_strategy()

    def build(make):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((6,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
            )
            model.compile(make(), "mse")
        return model

    def zeros(model):
        return [int(np.sum(kernel == 0)) for kernel in model.get_weights()[::2]]

    class Epochs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(zeros(self.model))

    schedule = compression.Cubic(final=0.75, begin=4, end=20, frequency=8)  # 8 steps an epoch
    optimizers = {
        "Adam": lambda: keras.optimizers.Adam(0.01),
        "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01),
        "EMA": lambda: keras.optimizers.AdamW(0.01, use_ema=True, ema_momentum=0.9),
    }
    for name, make in optimizers.items():
        model, seen = build(make), []
        pruning = compression.prune(model, schedule=schedule)
        model.fit(x, y, 8, epochs=3, verbose=0, callbacks=[pruning, Epochs()])
        after = zeros(model)
        model.fit(x, y, 8, epochs=1, verbose=0)  # masks hold without the callback, too
        found[name] = seen, after, zeros(model), [one.zeros for one in pruning.report().pruned]

    model = build(keras.optimizers.Adam)
    half = compression.Constant(final=0.5, begin=3)
    pruning = compression.prune(model, "l2", "filter", half)
    model.fit(x, y, 8, verbose=0, callbacks=[pruning])
    small = compression.shrink(model)
    small.fit(x, y, 8, verbose=0)
    found["shapes"] = [tuple(weight.shape) for weight in small.get_weights()]

    refused = {
        "taylor": lambda: compression.prune(build(keras.optimizers.SGD), "taylor", schedule=half),
        "muon": lambda: (muon := build(keras.optimizers.Muon)).fit(
            x, y, 8, verbose=0, callbacks=[compression.prune(muon, schedule=half)]
        ),
        "rewind": lambda: compression.prune(
            build(keras.optimizers.SGD), schedule=half, rewind_to=1
        ),
    }
    for name, call in refused.items():
        try:
            call()
        except ValueError as error:
            found[name] = str(error)
    return found


@pytest.fixture(scope="module")
def found():
    (result,) = tfdist.run(train, workers=2, parameter_servers=1, timeout=slowness.seconds(240))
    return result


@pytest.mark.parametrize("optimizer", ["Adam", "momentum", "EMA"])
def test_sparsity_is_exact_whenever_no_step_is_out(found, optimizer):
    epochs, after, later, reported = found[optimizer]
    # 0.75 (1 - (1 - t)^3) of 96 and 48 weights, behind steps 4, 12 and 20.
    assert epochs == [[0, 0], [round(0.65625 * 96), round(0.65625 * 48)], [72, 36]]
    assert after == later == reported == [72, 36]


def test_filters_are_taken_out(found):
    assert found["shapes"] == [(6, 8), (8,), (8, 3), (3,)]


@pytest.mark.parametrize(
    "case, said",
    [
        ("taylor", "scores weights by gradients, and with parameter servers each worker has its"),
        ("muon", "Muon's update of a weight looks at the gradients of others"),
        ("rewind", "rewind_to=1 with parameter servers"),
    ],
)
def test_what_cannot_be_is_refused(found, case, said):
    assert said in found[case]
