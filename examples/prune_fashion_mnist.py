"""Fashion-MNIST: train a network, prune half of its filters, and get a network half as wide.

python examples/prune_fashion_mnist.py
tfdist run -n 2 examples/prune_fashion_mnist.py
"""

import argparse

import fashion_mnist_data
import keras
from keras import layers

import tfdist

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=4, help="of training, and of pruning")
parser.add_argument("--batch-size", type=int, default=64, help="over all workers")
parser.add_argument("--examples", type=int, default=60_000, help="how many to train on")
parser.add_argument("--save", help="where the chief writes the smaller model (.keras)")
parser.add_argument("--page", help="where the chief writes the report (.html)")
args = parser.parse_args()

keras.utils.set_random_seed(1)
compression = tfdist.model_compression
strategy = tfdist.auto_strategy()

(x_train, y_train), (x_test, y_test) = fashion_mnist_data.load()
x_train = x_train[: args.examples, ..., None].astype("float32") / 255
x_test = x_test[..., None].astype("float32") / 255
y_train = y_train[: args.examples]
steps = -(-len(x_train) // args.batch_size)  # an epoch


def train(model, *callbacks):
    model.fit(x_train, y_train, args.batch_size, args.epochs, verbose=0, callbacks=callbacks)


def compile_for_labels(model):
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, args.epochs * steps)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


# 1. An ordinary model, trained as always.
with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, padding="same", use_bias=False),
            layers.BatchNormalization(synchronized=True),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", use_bias=False),
            layers.BatchNormalization(synchronized=True),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    compile_for_labels(model)
train(model)
with strategy.scope():
    before = keras.models.clone_model(model)  # to compare with, and to learn from
before.set_weights(model.get_weights())

# 2. Half of the filters go, while it trains on.
with strategy.scope():
    compile_for_labels(model)
schedule = compression.Cubic(final=0.5, begin=0, end=args.epochs * steps // 2)
pruning = compression.prune(model, criterion="l2", structure="filter", schedule=schedule)
train(model, pruning)

# 3. They are taken out, and the smaller model learns from the one before.
small = compression.shrink(model)
with strategy.scope():
    distiller = compression.Distiller(before, small, temperature=2.0)
    compile_for_labels(distiller)
train(distiller)

report = compression.report(before, small, data=(x_test, y_test))
if tfdist.is_chief():
    print(pruning.report())
    print(report)
    if args.page:
        report.to_html(args.page)
if args.save:
    small.save(args.save)
