"""What the tests of `tfdist.compat` ask of Keras and TensorFlow."""

import inspect

import devices
import keras
import tensorflow as tf


def require(owner, *names):
    """Fails with the name that `owner`, a module, class or object, does not have."""
    where = getattr(owner, "__name__", type(owner).__name__)
    for name in names:
        assert hasattr(owner, name), (
            f"`{where}.{name}` is gone from Keras {keras.__version__} or TensorFlow "
            f"{tf.__version__}; tfdist/compat needs it"
        )


def require_parameters(function, *names):
    """Fails unless the original of `function` takes these parameters, first and in this order."""
    found = list(inspect.signature(original(function)).parameters)
    assert found[: len(names)] == list(names), f"{function} now takes {found}"


def original(function):
    """The upstream function that tfdist has replaced by `function`."""
    while hasattr(function, "__wrapped__") and (function.__module__ or "").startswith("tfdist"):
        function = function.__wrapped__
    return inspect.unwrap(function) if hasattr(function, "__wrapped__") else function


def two_cpus():
    """A `tfdist.MirroredStrategy` of two replicas."""
    import tfdist

    return tfdist.MirroredStrategy(devices.PAIR)


def stock_pair():
    """A `tf.distribute.MirroredStrategy` of two replicas, whose collectives mix with no other's.

    TensorFlow numbers those of all strategies of a process alike: the first one of the second
    is taken for the first one's, and fails, and with it all that follow in the process.
    """
    from tfdist.compat import strategy

    class Stock(tf.distribute.MirroredStrategy):
        def __init__(self, devices):
            strategy.number_collectives_apart(self)
            super().__init__(devices)

    return Stock(devices.PAIR)
