"""The data and the classifier that most cases train."""

import numpy as np

EXAMPLES, BATCH, CLASSES = 103, 16, 3
STEPS = -(-EXAMPLES // BATCH)


def data():
    """Inputs of shape (103, 4) and labels of three classes."""
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 4)).astype("float32")
    return x, np.argmax(x @ random.normal(size=(4, CLASSES)), axis=1).astype("int32")


def classifier(strategy, optimizer, *layers, **options):
    """A compiled model of `data`, the same each time."""
    import contextlib

    import keras

    keras.utils.set_random_seed(7)
    with strategy.scope() if strategy else contextlib.nullcontext():
        layers = [layer() for layer in layers]
        model = keras.Sequential(
            [keras.Input((4,)), *layers, keras.layers.Dense(CLASSES, activation="softmax")]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer(), loss, metrics=["accuracy"], **options)
    return model


def frozen(strategy):
    """A model that training does not change: its metrics are those of fixed weights."""
    import keras

    return classifier(strategy, lambda: keras.optimizers.SGD(0.0))


def of_fixed_weights(model, x, y):
    """Cross entropy and accuracy of `model` on data, by NumPy, and its predictions."""
    kernel, bias = model.get_weights()
    scores = np.exp(x.astype("float64") @ kernel + bias)
    shares = scores / scores.sum(axis=1, keepdims=True)
    loss = -np.log(shares[np.arange(len(y)), y]).mean()
    return {"loss": loss, "accuracy": (shares.argmax(axis=1) == y).mean()}, shares
