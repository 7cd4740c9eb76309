import keras
import numpy as np
import pytest
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer, TFEpochIterator
from upstream import require, require_parameters, two_cpus

import tfdist
from tfdist import compat
from tfdist.sync.step import KerasStep

X = np.random.default_rng(3).normal(size=(20, 3))
Y = X @ np.array([[1.0], [2.0], [3.0]])


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def model():
    keras.utils.set_random_seed(4)
    layers = [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)]
    made = keras.Sequential(layers)
    made.compile(keras.optimizers.Adam(0.05), "mse")
    return made


def test_upstream():
    require_parameters(TensorFlowTrainer._maybe_symbolic_build, "self", "iterator", "data_batch")
    made = model()
    require(made, "_symbolic_build", "_compile_metrics", "_compile_loss")
    require(made, "_flatten_layers", "_post_build")
    require_parameters(made._compute_loss, "x", "y", "y_pred", "sample_weight", "training")
    require_parameters(type(made.optimizer).build, "self", "var_list")
    require(TFEpochIterator(x=X, y=Y, distribute_strategy=two_cpus()), "_distributed_dataset")


class LastLayerStep(KerasStep):
    """Updates the variables of the last layer alone."""

    def updated(self, optimizer, gradients, variables):
        return gradients[2:], variables[2:]


class LastLayerStrategy(tfdist.MirroredStrategy):
    """Its optimizers keep state for the last layer alone."""

    def build_optimizer(self, model):
        if not model.optimizer.built:
            model.optimizer.build(model.layers[-1].trainable_variables)

    def make_step(self, model, examples, global_examples, sync=None):
        return LastLayerStep(self.communicator(), self.replica_id(), examples, global_examples)


@pytest.mark.parametrize("built", [True, False])
def test_a_strategy_says_what_optimizers_keep_and_steps_what_they_update(built):
    expected = model()
    expected.layers[0].trainable = False
    expected.compile(keras.optimizers.Adam(0.05), "mse")
    expected.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)

    strategy = LastLayerStrategy(two_cpus().extended.worker_devices)
    with strategy.scope():
        mine = model()
        if not built:  # until Keras sees data
            mine = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(1)])
            mine.compile(keras.optimizers.Adam(0.05), "mse")
            mine.build((None, 3))
            mine.set_weights(model().get_weights())
    mine.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert len(mine.optimizer.variables) == len(expected.optimizer.variables)
    assert "build" not in vars(mine.optimizer)
    for a, b in zip(mine.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
