import inspect

import tensorflow as tf

import tfdist


def test_it_is_tensorflows():
    # There is no TPU here: what can be checked is that nothing has been changed.
    assert issubclass(tfdist.TPUStrategy, tf.distribute.TPUStrategy)
    own = set(vars(tfdist.TPUStrategy)) - {"__module__", "__doc__", "__firstlineno__"}
    assert own <= {"__static_attributes__", "__parameters__", "__qualname__"}
    stock = inspect.signature(tf.distribute.TPUStrategy.__init__)
    assert inspect.signature(tfdist.TPUStrategy.__init__) == stock
    # The patches of Keras leave its models alone.
    assert not getattr(tfdist.TPUStrategy, "is_tfdist", False)
