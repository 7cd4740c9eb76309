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
QUICK = {}

# What `make test` tries a feature on; `make test-all` tries each on all topologies.
WORKERS = ("2 workers",)
EACH_KIND = ("2 workers", "mirrored x2")  # replicas of one process are fed in another way
SERVERS = ("parameter servers",)  # where steps are another kind
SLOW = ()  # the equality table, or a feature much like it, has it


def feature(function=None, *, tolerance=1e-5, quick=WORKERS):
    """Lists a function by its name.

    Args:
        function: what is listed; its name in words is the feature's.
        tolerance: by how much numbers may differ, relative and absolute.
        quick: topologies of `features_test.py`, such as `WORKERS`, `EACH_KIND` or `SLOW`.
    """
    if function is None:
        return lambda function: feature(function, tolerance=tolerance, quick=quick)
    name = function.__name__.replace("_", " ")
    FEATURES[name], TOLERANCES[name], QUICK[name] = function, tolerance, quick
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
