"""A transformer that is trained on news and essays, and goes on with fiction: the Brown corpus.

It predicts the next of 2,000 words, of which one stands for all others.
"""

import collections
import pathlib
import sys

import keras
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples"))

BATCH = 16
DENSE_EPOCHS, MORE_EPOCHS = 2, 4
# The blocks alone, as in the paper of movement pruning.
FILTERS = "query|key|value|attention|mlp"
VOCABULARY, TOKENS, WIDTH, HEADS, LAYERS = 2000, 64, 64, 4, 2
FICTION = "klmnpr"


def data(tuning, dense):
    """`(x, y), (x, y)`: to train with, and to measure with, which is fiction.

    Of ten texts of fiction one is for the test, and one to choose settings by.
    """
    import brown_data

    texts = brown_data.load()
    fiction = [name for name in texts if name[1] in FICTION]
    held_out = {True: fiction[1::10], False: fiction[::10]}
    before = [name for name in texts if name not in fiction]
    more = [name for name in fiction if name not in held_out[True] + held_out[False]]
    counts = collections.Counter(word for name in before + more for word in texts[name])
    place = {word: i + 1 for i, (word, _) in enumerate(counts.most_common(VOCABULARY - 1))}

    def pairs(names):
        words = np.array([place.get(word, 0) for name in names for word in texts[name]], "int32")
        rows = np.lib.stride_tricks.sliding_window_view(words, TOKENS + 1)[::TOKENS]
        return rows[:, :-1], rows[:, 1:]

    return pairs(before if dense else more), pairs(held_out[tuning])


@keras.saving.register_keras_serializable(package="benchmarks")
class Positions(keras.layers.Layer):
    """Adds a vector of each place."""

    def build(self, shape):
        self.vectors = self.add_weight(shape[1:], name="vectors")

    def call(self, x):
        return x + self.vectors


def build():
    layers = keras.layers
    tokens = keras.Input((TOKENS,), dtype="int32")
    x = Positions()(layers.Embedding(VOCABULARY, WIDTH)(tokens))
    for number in range(LAYERS):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"attention_{number}")
        x = x + attention(y, y, use_causal_mask=True)
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * WIDTH, activation="gelu", name=f"mlp_{number}_in")(y)
        y = layers.Dense(WIDTH, name=f"mlp_{number}_out")(y)
        x = x + layers.Dropout(0.1)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    return keras.Model(tokens, layers.Dense(VOCABULARY, name="words")(x))
