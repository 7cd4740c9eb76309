import keras
import numpy as np
from keras import layers

from tfdist.compat.layers import all_layers, own_variables


def test_layers_inside_of_others_and_of_own_classes():
    shared = layers.Dense(3)
    inner = keras.Sequential([keras.Input((3,)), shared, layers.BatchNormalization()])

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.parts = [inner, {"head": layers.Dense(1)}]

        def call(self, x):
            return self.parts[1]["head"](shared(self.parts[0](x)))

    model = Own()
    model(np.ones((2, 3), "float32"))
    found = all_layers(model)
    assert found[0] is model and len(found) == len(set(map(id, found)))
    kinds = [type(layer).__name__ for layer in found]
    assert kinds.count("Dense") == 2 and kinds.count("BatchNormalization") == 1


def test_each_variable_is_one_layers_own():
    x = inputs = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3)(x, x)
    model = keras.Model(inputs, layers.Bidirectional(layers.LSTM(2))(x))
    own = [id(variable) for layer in all_layers(model) for variable in own_variables(layer)]
    assert len(own) == len(set(own))
    assert set(own) >= {id(variable) for variable in model.weights}
    assert own_variables(model) == []
