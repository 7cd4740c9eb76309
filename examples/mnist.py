"""MNIST on one device or on many: the same script, the same numbers.

python examples/mnist.py
tfdist run -n 2 examples/mnist.py
"""

import argparse

import keras
import mnist_data

import tfdist

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--batch-size", type=int, default=64, help="over all workers")
parser.add_argument("--examples", type=int, default=60_000, help="how many to train on")
parser.add_argument("--save", help="where the chief writes the trained model (.keras)")
args = parser.parse_args()

keras.utils.set_random_seed(1)
strategy = tfdist.auto_strategy()  # the one line that is not plain Keras

(x_train, y_train), (x_test, y_test) = mnist_data.load()
x_train = x_train[: args.examples].reshape(-1, 784).astype("float32") / 255
x_test = x_test.reshape(-1, 784).astype("float32") / 255
y_train = y_train[: args.examples]

steps = -(-len(x_train) // args.batch_size)  # an epoch, the last with fewer examples

with strategy.scope():
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=args.epochs * steps)
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )

model.fit(x_train, y_train, batch_size=args.batch_size, epochs=args.epochs, verbose=2)
loss, accuracy = model.evaluate(x_test, y_test, batch_size=500, verbose=0)
print(f"worker {tfdist.rank()} of {tfdist.world_size()}: test accuracy {accuracy:.2%}")

if args.save:
    model.save(args.save)  # on the chief; the other workers write nothing
