"""The next word of Shakespeare: an embedding table split over two parameter servers.

tfdist run -n 2 --ps 2 examples/split_embedding.py

Each half of the table of words lives on a server of its own, with its half of the
optimizer's state. Workers fetch the rows of their batch and send the gradients of those
rows; the saved model has one table.
"""

import argparse

import char_lm_data
import keras
import numpy as np
import tensorflow as tf

import tfdist

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--words", type=int, default=300_000, help="how many to train on")
parser.add_argument("--save", help="where the trained model goes (.keras)")
args = parser.parse_args()

BEFORE, COMMON = 4, 1000  # words that are looked at; words that are told apart

keras.utils.set_random_seed(1)
two = tf.distribute.experimental.partitioners.FixedShardsPartitioner(2)
strategy = tfdist.ParameterServerStrategy(variable_partitioner=two)

train, validation, characters = char_lm_data.load()
letters = np.frombuffer(characters.encode("ascii"), np.uint8)
texts = [letters[part].tobytes().decode("ascii").lower().split() for part in (train, validation)]
texts = [text[:count] for text, count in zip(texts, (args.words, args.words // 10))]
words, ids, counts = np.unique(np.concatenate(texts), return_inverse=True, return_counts=True)
rank = np.empty(len(words), "int32")
rank[np.argsort(-counts)] = np.arange(len(words))  # 0 for the commonest word
ids = rank[ids]


def examples(ids):
    """The words before each common word, and which one it is."""
    windows = np.lib.stride_tricks.sliding_window_view(ids, BEFORE + 1)
    windows = windows[windows[:, BEFORE] < COMMON]
    return windows[:, :BEFORE], windows[:, BEFORE]


x, y = examples(ids[: len(texts[0])])
x_held_out, y_held_out = examples(ids[len(texts[0]) :])

with strategy.scope():
    table = keras.layers.Embedding(len(words), 32)
    model = keras.Sequential(
        [
            keras.Input((BEFORE,), dtype="int32"),
            table,
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(COMMON),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])

validation_data = (x_held_out, y_held_out)
model.fit(x, y, batch_size=1024, epochs=args.epochs, validation_data=validation_data, verbose=2)
for part in table.weights:
    print(f"{part.shape[0]} rows on {part.value.device}")
guess = np.mean(y_held_out == np.bincount(y).argmax())
_, accuracy = model.evaluate(x_held_out, y_held_out, batch_size=1024, verbose=0)
print(f"held-out accuracy {accuracy:.2%}; always the commonest word: {guess:.2%}")
if args.save:
    model.save(args.save)
