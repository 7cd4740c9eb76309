"""The data and the model that most features are tried on, and where they are listed."""

import keras
import numpy as np
from keras import layers

EXAMPLES, BATCH = 50, 8  # seven steps an epoch, the last with two examples
_rng = np.random.default_rng(0)
X = _rng.normal(size=(EXAMPLES, 6)).astype("float32")
Y = (X[:, :1] * 2 + 1).astype("float32")

FEATURES = {}
TOLERANCES = {}


def feature(function=None, *, tolerance=1e-5):
    """Lists a function by its name; numbers may differ by `tolerance`, relative and absolute."""
    if function is None:
        return lambda function: feature(function, tolerance=tolerance)
    name = function.__name__.replace("_", " ")
    FEATURES[name], TOLERANCES[name] = function, tolerance
    return function


def small_model(**compile):
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(1)]
    )
    options = {"optimizer": keras.optimizers.SGD(0.05), "loss": "mse", "metrics": ["mae"]}
    model.compile(**{**options, **compile})
    return model


def fit(model, x=X, y=Y, **arguments):
    options = {"batch_size": BATCH, "shuffle": False, "verbose": 0, "epochs": 2}
    return dict(model.fit(x, y, **{**options, **arguments}).history)


def written(path):
    """Waits for the chief, who alone writes: the other workers are ahead of its last line."""
    import tfdist

    tfdist.barrier("written", 60)
    return path
