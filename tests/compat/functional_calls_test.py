import keras
import numpy as np
from keras import layers

from tfdist.compat.functional_calls import calls_of, functional_of, is_addition


def test_calls_of_a_functional_model():
    x = keras.Input((4,))
    y = layers.Dropout(0.5)(layers.Dense(4, name="dense")(x))
    model = keras.Model(x, layers.Add()([x + y, y]))
    calls = calls_of(functional_of(model))
    assert [is_addition(call.operation) for call in calls] == [False, False, True, True]
    dense, dropout, *_ = calls
    assert dense.operation is model.get_layer("dense") and dense.inputs[0] is model.inputs[0]
    assert dropout.inputs[0] is dense.outputs[0]
    values = {id(dropout.inputs[0]): np.ones((8, 4), "float32")}
    assert np.all(np.asarray(dropout.again(values, training=False)[0]) == 1)
    assert np.any(np.asarray(dropout.again(values, training=True)[0]) == 0)


def test_what_is_no_functional_model():
    assert functional_of(layers.Dense(2)) is None
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert len(calls_of(functional_of(model))) == 1
