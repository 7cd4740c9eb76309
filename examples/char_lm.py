"""A small GPT that learns to write Shakespeare, one character at a time.

python examples/char_lm.py
tfdist run -n 2 examples/char_lm.py --sync diloco
"""

import argparse

import char_lm_data
import keras
import numpy as np
from keras import layers

import tfdist
from tfdist.callbacks import DiLoCo, LocalSGD, PartialSync, SyncSGD
from tfdist.gradient_compression import BFloat16, Float16, Int8, OneBit, PowerSGD, TopK

# How workers agree. Without any of these, `fit` sums float32 gradients in every step.
SYNC = {
    "sync": lambda: SyncSGD(),
    "local": lambda: LocalSGD(args.period, warmup_steps=args.warmup),
    "diloco": lambda: DiLoCo(args.period),
    "streaming": lambda: DiLoCo(args.period, fragments=4),
    "diloco-int8": lambda: DiLoCo(args.period, compressor=Int8()),
    "partial": lambda: PartialSync(group_size=2, resync_every=args.period),
    "bfloat16": lambda: SyncSGD(compressor=BFloat16()),
    "float16": lambda: SyncSGD(compressor=Float16()),
    "int8": lambda: SyncSGD(compressor=Int8()),
    "onebit": lambda: SyncSGD(compressor=OneBit()),
    "topk": lambda: SyncSGD(compressor=TopK(0.01)),
    "powersgd": lambda: SyncSGD(compressor=PowerSGD(rank=4)),
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--sync", choices=SYNC, default="sync", help="how workers agree")
parser.add_argument("--period", type=int, default=20, help="steps between synchronisations")
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--evaluate-every", type=int, default=250, help="steps")
parser.add_argument("--batch-size", type=int, default=12, help="sequences a worker")
parser.add_argument("--block", type=int, default=64, help="characters that the model sees")
parser.add_argument("--layers", type=int, default=4)
parser.add_argument("--heads", type=int, default=4)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--dropout", type=float, default=0.0)
parser.add_argument("--learning-rate", type=float, default=2e-3)
parser.add_argument("--warmup", type=int, default=100, help="steps until the full learning rate")
parser.add_argument("--sample", type=int, default=500, help="characters to write at the end")
args = parser.parse_args()

keras.utils.set_random_seed(1)
strategy = tfdist.auto_strategy()
train, validation, characters = char_lm_data.load()
batch_size = args.batch_size * tfdist.world_size()  # of all workers


def crops(text, count):
    """Random pieces of `text`, and the same one character on: what the model shall say."""
    starts = np.random.randint(0, len(text) - args.block, count)  # alike on all workers
    pieces = text[starts[:, None] + np.arange(args.block + 1)].astype("int32")
    return pieces[:, :-1], pieces[:, 1:]


def small():
    # One a matrix: an initializer gives the same numbers whenever it is called.
    return keras.initializers.RandomNormal(stddev=0.02)


class Embed(layers.Layer):
    """Learned vectors of characters plus those of places.

    By a product: the gradient of `layers.Embedding` is sparse, of which Keras' Adam
    squares each occurrence of a character by itself, and learns more slowly here.
    """

    def build(self, shape):
        self.characters = self.add_weight((len(characters), args.width), initializer=small())
        self.places = self.add_weight((args.block, args.width), initializer=small())

    def call(self, tokens):
        return keras.ops.one_hot(tokens, len(characters)) @ self.characters + self.places


def gpt():
    """A causal transformer with the normalization before each part (GPT-2)."""
    tokens = keras.Input((args.block,), dtype="int32")
    x = layers.Dropout(args.dropout)(Embed()(tokens))
    for _ in range(args.layers):
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.MultiHeadAttention(
            args.heads, args.width // args.heads, dropout=args.dropout, kernel_initializer=small()
        )(y, y, use_causal_mask=True)
        x = x + layers.Dropout(args.dropout)(y)
        y = layers.LayerNormalization(epsilon=1e-5)(x)
        y = layers.Dense(4 * args.width, activation="gelu", kernel_initializer=small())(y)
        y = layers.Dense(args.width, kernel_initializer=small())(y)
        x = x + layers.Dropout(args.dropout)(y)
    x = layers.LayerNormalization(epsilon=1e-5)(x)
    return keras.Model(tokens, layers.Dense(len(characters), kernel_initializer=small())(x))


def write(model, text, count, temperature=0.8):
    """Goes on from `text` (positions in `characters`) by `count` characters."""
    random = np.random.default_rng(0)
    for _ in range(count):
        logits = keras.ops.convert_to_numpy(model(text[None, -args.block :], training=False))
        scores = np.exp((logits[0, -1] - logits[0, -1].max()) / temperature)
        text = np.append(text, random.choice(len(characters), p=scores / scores.sum()))
    return "".join(characters[token] for token in text[-count:])


with strategy.scope():
    model = gpt()
    model.compile(
        keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(
                initial_learning_rate=0.0,
                warmup_target=args.learning_rate,
                warmup_steps=args.warmup,
                decay_steps=max(1, args.steps - args.warmup),
                alpha=0.1,
            ),
            weight_decay=0.1,
            beta_2=0.99,
            global_clipnorm=1.0,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

evaluate_every = min(args.evaluate_every, args.steps)
x, y = crops(train, args.steps * batch_size)
held_out = crops(validation, 1024)
model.fit(
    x,
    y,
    batch_size=batch_size,
    steps_per_epoch=evaluate_every,
    epochs=args.steps // evaluate_every,
    validation_data=held_out,
    validation_batch_size=256,
    callbacks=[SYNC[args.sync]()],
    verbose=2,
)
loss = model.evaluate(*held_out, batch_size=256, verbose=0)
print(f"worker {tfdist.rank()} of {tfdist.world_size()}: validation loss {loss:.4f}")
if tfdist.is_chief():
    print(write(model, validation[: args.block].astype("int32"), args.sample))
tfdist.barrier("written")  # a worker that ends earlier looks like one that was lost
