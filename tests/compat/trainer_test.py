import inspect
import pickle
import subprocess
import sys

import devices
import keras
import numpy as np
import pytest
import slowness
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer, TFEpochIterator
from upstream import original, require, require_parameters, two_cpus

import tfdist
from tfdist import compat
from tfdist.compat import gpu_dtypes, trainer


@pytest.fixture(autouse=True)
def installed():
    compat.install()


def small():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_upstream():
    for kind in ("train", "test", "predict"):
        require_parameters(getattr(TensorFlowTrainer, f"make_{kind}_function"), "self", "force")
    for method in ("fit", "evaluate", "predict"):
        require(TensorFlowTrainer, method)
    require_parameters(TensorFlowTrainer._autoconvert_optionals, "self", "step_func")
    require_parameters(TFEpochIterator.__init__, "self", "distribute_strategy")
    model = small()
    require(model, "_distribute_strategy", *KINDS)
    require(model.optimizer, "_distribution_strategy")
    require(model, "_compile_metrics", "_compile_loss", "_flatten_layers")
    model.compile(metrics=["mae"], weighted_metrics=["mse"])
    require_parameters(TensorFlowTrainer._resolve_auto_jit_compile, "self")
    require(model._compile_metrics, "_user_metrics", "_user_weighted_metrics")
    iterator = TFEpochIterator(x=np.ones((4, 2)), y=np.ones((4, 1)), distribute_strategy=stock())
    require(iterator, "_distributed_dataset", "_num_batches", "data_adapter")
    assert iterator.data_adapter.batch_size == 32


KINDS = ("train_function", "test_function", "predict_function")


def stock():
    return tf.distribute.get_strategy()


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_signatures_and_documentation_stay(method):
    patched = getattr(keras.Model, method)
    upstream = original(patched)
    assert inspect.signature(patched) == inspect.signature(upstream)
    assert patched.__doc__ == upstream.__doc__


def test_whose_model_and_optimizer():
    strategy = two_cpus()
    with strategy.scope():
        mine = small()
    assert trainer.strategy_of(mine) is strategy
    assert trainer.optimizer_strategy(mine.optimizer) is strategy
    assert trainer.strategy_of(small()) is None
    with tf.distribute.MirroredStrategy(devices.PAIR[:1]).scope():
        assert trainer.strategy_of(small()) is None


def test_step_functions_are_made_once_and_anew_when_forced():
    strategy = two_cpus()
    with strategy.scope():
        mine = small()
    for kind in ("train", "test", "predict"):
        make, attribute = getattr(mine, f"make_{kind}_function"), f"{kind}_function"
        make()
        first = getattr(mine, attribute)
        make()
        assert first is getattr(mine, attribute)
        make(force=True)
        assert first is not getattr(mine, attribute)


@pytest.fixture
def gpu(monkeypatch):
    """Keras sees a GPU, on which tfdist's replicas are."""
    found = [*tf.config.list_physical_devices(), tf.config.PhysicalDevice("GPU:0", "GPU")]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: found)
    monkeypatch.setattr(gpu_dtypes, "is_on_gpus", lambda strategy: True)


def test_keras_does_not_compile_by_itself_for_a_cpu_beside_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(gpu_dtypes, "is_on_gpus", lambda strategy: False)
    with tfdist.MirroredStrategy(devices.PAIR[:1]).scope():
        assert not small().jit_compile


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_keras_compiles_by_itself_where_it_would_without_a_strategy(gpu, replicas):
    strategy = tfdist.MirroredStrategy(devices.PAIR[:replicas]) if replicas else stock()
    with strategy.scope():
        model = small()
        # More replicas in one process would each compile their own.
        assert model.jit_compile == (replicas < 2)
        model.compile("sgd", "mse", run_eagerly=True)
        assert not model.jit_compile
        model.compile("sgd", "mse", jit_compile=False)
        assert not model.jit_compile
        model = keras.Sequential([keras.Input((2,)), NotForXla()])
        model.compile("sgd", "mse")
        assert not model.jit_compile


class NotForXla(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.supports_jit = False


def numbers():
    """What a training without a strategy gives: each weight, the history, predictions."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    x = keras.layers.BatchNormalization(synchronized=True)(x)
    x = keras.layers.Dropout(0.3)(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile(
        keras.optimizers.Adam(0.01, global_clipnorm=0.5, gradient_accumulation_steps=2),
        "mse",
        metrics=["mae"],
        steps_per_execution=2,
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 2))
    fit = model.fit(x, y, batch_size=8, epochs=2, verbose=0, sample_weight=rng.uniform(size=50))
    results = [np.asarray(weight) for weight in model.weights]
    results += [np.asarray(values) for values in fit.history.values()]
    results += model.evaluate(x, y, verbose=0)
    return [*results, model.predict(x, verbose=0)]


def test_a_model_without_a_strategy_trains_as_it_does_without_tfdist():
    # The source of `numbers` alone: this module imports tfdist.
    program = "import os, pickle, sys\nos.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'\n"
    program += "import keras\nimport numpy as np\nimport tensorflow as tf\n"
    options = tf.config.optimizer.get_experimental_options()  # they decide on the last bits
    program += f"tf.config.optimizer.set_experimental_options({options})\n\n"
    program += inspect.getsource(numbers)
    assert "tfdist" not in program
    program += "\nsys.stdout.buffer.write(pickle.dumps(numbers()))\n"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=slowness.seconds(120)
    )
    assert result.returncode == 0, result.stderr.decode()
    without = pickle.loads(result.stdout)
    for patched, plain in zip(numbers(), without, strict=True):
        np.testing.assert_array_equal(patched, plain)
