"""How steps are computed: compiled by XLA, and in half precision."""

import keras
import numpy as np

from feature_cases.common import EACH_KIND, X, Y, feature, fit, small_model

# Half precision rounds to u, half a unit of the last of its 8 or 11 digits. One
# process rounds the gradient that it sums over eight examples, replicas round each
# their own part of that sum; both do it once in each of the two layers. So a step
# may differ by 4 u of the sum of its examples' magnitudes, and a weight by 4 u of the
# way that it went, since here all examples pull in one direction: inputs are positive
# and the target is far away.
BFLOAT16_BOUND = 4 * 2**-8
FLOAT16_BOUND = 4 * 2**-11


def _way_of_weights(policy, optimizer):
    """Which way each tensor of weights went, as a direction and the logarithm of its length."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_model(optimizer=optimizer)
        start = model.get_weights()
        fit(model, np.abs(X), np.full_like(Y, 10.0), epochs=1)
        ways = [w - s for w, s in zip(model.get_weights(), start)]
        found = {f"weight {i}": way / np.linalg.norm(way) for i, way in enumerate(ways)}
        found |= {f"length {i}": np.log(np.linalg.norm(way)) for i, way in enumerate(ways)}
        found["dtype"] = float(model.compute_dtype == policy.removeprefix("mixed_"))
        if hasattr(model.optimizer, "dynamic_scale"):
            found["scale"] = float(keras.ops.convert_to_numpy(model.optimizer.dynamic_scale))
        return found
    finally:
        keras.config.set_dtype_policy(before)


@feature(quick=EACH_KIND)
def jit_compile():
    return fit(small_model(jit_compile=True))


@feature(quick=("one device",))  # where XLA has the whole step, and knows no collective
def jit_compile_with_synchronized_normalization():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(synchronized=True),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=True)
    return fit(model)


@feature(tolerance=BFLOAT16_BOUND)
def mixed_bfloat16():
    return _way_of_weights("mixed_bfloat16", keras.optimizers.SGD(1e-4))


@feature(tolerance=FLOAT16_BOUND, quick=EACH_KIND)
def mixed_float16_with_loss_scaling():
    # The scale doubles twice in these seven steps. None overflows: whether one does
    # depends on the size of the sums, which one process makes larger than replicas do.
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1e-4), initial_scale=32.0, dynamic_growth_steps=3
    )
    return _way_of_weights("mixed_float16", optimizer)
