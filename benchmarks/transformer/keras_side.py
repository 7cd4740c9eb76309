"""Times `fit` of the transformer: plain Keras, or under a tfdist strategy.

Usage: keras_side.py {keras,tfdist,tfdist-grpc} {plain,xla}; prints one JSON line on the chief.
"""

import itertools
import json
import resource
import statistics
import sys
import time

import numpy as np
import sizes

STEPS, WARM_UP = 40, 8


def build(keras, jit_compile):
    """The same transformer as `torch_side.build`, 2.87 M parameters."""
    layers = keras.layers
    tokens = keras.Input((sizes.TOKENS,), dtype="int32")

    class Positions(layers.Layer):
        """Adds a vector of each place; an `Embedding` of a constant would not be trained."""

        def build(self, shape):
            self.vectors = self.add_weight(shape[1:], name="vectors")

        def call(self, x):
            return x + self.vectors

    x = layers.Embedding(sizes.VOCABULARY, sizes.WIDTH)(tokens)
    x = Positions()(x)
    for _ in range(sizes.LAYERS):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(sizes.HEADS, sizes.WIDTH // sizes.HEADS)(
            y, y, use_causal_mask=True
        )
        x = x + y
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * sizes.WIDTH, activation="gelu")(y)
        x = x + layers.Dense(sizes.WIDTH)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    model = keras.Model(tokens, layers.Dense(sizes.VOCABULARY)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=jit_compile)
    return model


def main(library, mode):
    import contextlib

    strategy = None
    if library == "tfdist":
        import tfdist

        strategy = tfdist.auto_strategy()
    elif library == "tfdist-grpc":
        import tensorflow as tf

        import tfdist

        experimental = tf.distribute.experimental
        strategy = tfdist.MultiWorkerMirroredStrategy(
            communication_options=experimental.CommunicationOptions(
                implementation=experimental.CommunicationImplementation.RING
            )
        )
    import keras

    keras.utils.set_random_seed(0)
    workers = strategy.num_workers if strategy else 1
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = build(keras, jit_compile=True if mode == "xla" else "auto")
    batch = sizes.BATCH * workers
    x = np.random.default_rng(0).integers(0, sizes.VOCABULARY, (STEPS * batch, sizes.TOKENS + 1))
    x, y = x[:, :-1].astype("int32"), x[:, 1:].astype("int32")
    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter())

    def fit(steps, epochs=1):
        ends.clear()
        rows = steps * batch
        begin = time.perf_counter()
        model.fit(
            x[:rows], y[:rows], batch_size=batch, epochs=epochs, verbose=0, callbacks=[Clock()]
        )
        return time.perf_counter() - begin

    begin = time.perf_counter()
    fit(WARM_UP)
    first = time.perf_counter() - begin
    fit(STEPS)
    steps = [b - a for a, b in itertools.pairwise(ends)]
    step = statistics.median(steps)
    # Differences of short times: the median of several.
    one = statistics.median(fit(4) for _ in range(3))
    three = statistics.median(fit(4, epochs=3) for _ in range(3))
    if strategy is None or strategy.is_chief:
        found = {
            "step_ms": 1e3 * step,
            "min_ms": 1e3 * min(steps),
            "fit_call_ms": 1e3 * (one - 4 * step),
            "epoch_ms": 1e3 * ((three - one) / 2 - 4 * step),
            "first_fit_s": first,
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
