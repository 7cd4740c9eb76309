"""Each patch does nothing to a model outside of any scope, and the docs' page lists them all.

A case is a small program of plain Keras or TensorFlow. What is replaced permanently: it runs with
the replacement in place and with the original, calls each, and gives the same bits. What is
replaced temporarily, or on objects of tfdist's own: a case returns pairs of what it found where
the replacement would stand, and of what upstream has there.
"""

import ast
import functools
import importlib.util
import pathlib
import warnings
import zipfile

import devices
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import nn
from keras.src.backend.tensorflow.core import Variable
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer, TFEpochIterator
from keras.src.legacy.saving import legacy_h5_format
from keras.src.losses import loss as loss_module
from keras.src.optimizers.base_optimizer import BaseOptimizer
from keras.src.optimizers.loss_scale_optimizer import LossScaleOptimizer
from keras.src.saving import saving_lib
from keras.src.trainers import compile_utils
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter
from keras.src.trainers.epoch_iterator import EpochIterator
from keras.src.trainers.trainer import Trainer
from tensorflow.python.distribute import (
    collective_all_reduce_strategy,
    cross_device_utils,
    input_lib,
    mirrored_strategy,
    parameter_server_strategy_v2,
)
from upstream import stock_pair, two_cpus

import tfdist
from tfdist import compat
from tfdist.compat.replacing import PATCHES

PACKAGE = str(pathlib.Path(tfdist.__file__).parent)
DOCS = pathlib.Path(PACKAGE).parent / "docs"


@pytest.fixture(autouse=True)
def installed():
    compat.install()


PERMANENT, TEMPORARY = {}, {}  # (owner, name) -> the case


def case(cases, owner, *names):
    def register(function):
        cases.update({(owner, name): function for name in names})
        return function

    return register


def title(key):
    owner, name = key
    return f"{owner.__name__}.{name}"


def upstream(value):
    """The function of Keras or TensorFlow that replacements stand in front of."""
    while getattr(code(value), "co_filename", "").startswith(PACKAGE):
        value = value.__wrapped__
    return value


def code(value):
    while isinstance(value, functools.partial):
        value = value.func
    return getattr(value, "__code__", None)


# -- permanently ---------------------------------------------------------------------

X, Y = np.linspace(-1.0, 1.0, 12).reshape(6, 2), np.linspace(1.0, -1.0, 6)[:, None]


def compiled(optimizer="sgd"):
    keras.utils.set_random_seed(7)
    layers = [keras.Input((2,), name="x"), keras.layers.Dense(1, name="y")]
    model = keras.Sequential(layers, name="model")
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


@case(PERMANENT, tf.nn, "compute_average_loss", "scale_regularization_loss")
def losses_of_a_custom_loop(path):
    return [
        tf.nn.compute_average_loss(tf.constant([1.0, 5.0]), global_batch_size=3),
        tf.nn.compute_average_loss(tf.constant([1.0, 5.0]), [0.5, 2.0]),
        tf.nn.scale_regularization_loss(tf.constant([1.0, 2.0])),
    ]


@case(PERMANENT, keras.metrics.Mean, "update_state")
def means_of_numbers_and_of_examples(path):
    mean, found = keras.metrics.Mean(), []
    for values, weights in [(2.0, None), (5.0, 3.0), ([1.0, 7.0], None), ([1.0, 7.0], [2.0, 0.0])]:
        mean.update_state(values, weights)
        found += [mean.result(), mean.total.value, mean.count.value]
    return found


@case(PERMANENT, keras.layers.Embedding, "build", "call", "embeddings")
@case(PERMANENT, keras.layers.Embedding, "save_own_variables", "load_own_variables")
def a_table(path):
    layer = keras.layers.Embedding(5, 3, keras.initializers.RandomUniform(seed=1))
    first, store = layer(np.array([[4, 0], [1, 1]])), {}
    layer.save_own_variables(store)
    layer.load_own_variables({"0": 2 * store["0"]})
    return [first, store["0"], layer.embeddings, *layer.get_weights()]


@case(PERMANENT, Trainer, "_get_metrics_result_or_logs")
def logs_of_an_epoch(path):
    model = compiled()
    model.evaluate(X, Y, verbose=0)
    logs = [Trainer._get_metrics_result_or_logs(model, logs) for logs in ({"own": 1.0}, {})]
    return [logs[0]["own"], *logs[1].values()]


@case(
    PERMANENT,
    input_lib._SingleWorkerDatasetIteratorBase,
    *("get_next_as_list", "get_next_as_optional_list"),
)
def batches_of_a_stock_strategy(path):
    strategy = tf.distribute.MirroredStrategy(devices.PAIR)
    dataset = tf.data.Dataset.range(8).batch(4)
    (part,) = iter(strategy.experimental_distribute_dataset(dataset))._iterators
    return [*part.get_next_as_list(), *(o.get_value() for o in part.get_next_as_optional_list())]


@case(PERMANENT, loss_module, "reduce_weighted_values", "scale_loss_for_distribution")
@case(PERMANENT, loss_module, "unscale_loss_for_distribution")
def losses(path):
    def call():
        for reduction in ("sum_over_batch_size", "mean_with_sample_weight", "sum", "none"):
            loss = keras.losses.MeanSquaredError(reduction=reduction)
            values.append(loss(Y, 2.0 * Y, sample_weight=np.arange(6.0)))
            values.append(loss_module.unscale_loss_for_distribution(values[-1]))
        return values[-8:]

    values = []
    call()
    strategy = stock_pair()  # divides by two, and multiplies
    of_replicas = tf.nest.map_structure(strategy.experimental_local_results, strategy.run(call))
    return [*values[:8], *(tensor for pair in of_replicas for tensor in pair)]


@case(PERMANENT, compile_utils.CompileLoss, "call")
def two_heads(path):
    head = keras.losses.MeanSquaredError(reduction="sum")
    compiled_loss = compile_utils.CompileLoss([head, "mae"], loss_weights=[1.0, 3.0])
    total = compiled_loss([Y, Y], [2.0 * Y, 3.0 * Y], np.arange(6.0))
    return [total, *(metric.result() for metric in compiled_loss.metrics)]


@case(PERMANENT, nn, "_compute_moments_sync")
@case(PERMANENT, keras.layers.BatchNormalization, "_moments")
def synchronized_normalization(path):
    layer = keras.layers.BatchNormalization(synchronized=True)
    masked = layer(X[:, None], training=True, mask=np.arange(6)[:, None] < 4)
    return [layer(X[:, None], training=True), masked, *layer.get_weights()]


@case(PERMANENT, BaseOptimizer, "apply", "scale_loss", "_get_current_learning_rate")
@case(PERMANENT, BaseOptimizer, "add_variable_from_reference")
@case(PERMANENT, LossScaleOptimizer, "apply", "scale_loss")
@case(PERMANENT, TFOptimizer, "_all_reduce_sum_gradients")
def updates(path):
    found = []
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    for make in (
        lambda: keras.optimizers.Adam(schedule, global_clipnorm=0.5),
        lambda: LossScaleOptimizer(keras.optimizers.SGD(0.1, momentum=0.9), initial_scale=8.0),
    ):
        optimizer, variable = make(), keras.Variable([1.0, -2.0])
        for step in (1.0, 2.0):
            optimizer.apply([step * tf.constant([0.25, 3.0])], [variable])
        found += [variable, optimizer.learning_rate, optimizer.scale_loss(tf.constant(3.0))]
    return found


@case(PERMANENT, tf.GradientTape, "gradient")
def a_tape(path):
    x = tf.Variable(3.0)
    with tf.GradientTape() as tape:
        targets = [x**2, {"b": 2.0 * x}]
    return tape.gradient(targets, [x], unconnected_gradients="zero")


@case(PERMANENT, TensorFlowTrainer, *(f"make_{k}_function" for k in ("train", "test", "predict")))
@case(PERMANENT, TensorFlowTrainer, "fit", "evaluate", "predict", "_maybe_symbolic_build")
@case(PERMANENT, TensorFlowTrainer, "_get_metrics_result_or_logs", "_resolve_auto_jit_compile")
@case(PERMANENT, TFEpochIterator, "__init__", "_get_iterator")
def a_training(path):
    model = compiled("adam")
    fit = model.fit(X, Y, batch_size=4, epochs=2, verbose=0)
    results = [*model.get_weights(), *fit.history.values(), model.jit_compile]
    return [*results, *model.evaluate(X, Y, verbose=0), model.predict(X, verbose=0)]


@case(PERMANENT, keras.random.SeedGenerator, "next")
def random_numbers(path):
    generator = keras.random.SeedGenerator(3)
    drawn = [keras.random.uniform((2,), seed=generator) for _ in range(2)]
    return [*drawn, generator.next(ordered=False), generator.state]


@case(PERMANENT, keras.Model, "save", "save_weights")
@case(PERMANENT, keras.saving, "save_model", "save_weights")
@case(PERMANENT, keras.models, "save_model")
@case(PERMANENT, saving_lib, "save_model", "save_weights_only")
@case(PERMANENT, legacy_h5_format, "save_model_to_hdf5")
def files(path):
    model, found = compiled(), []
    model.save(path / "0.keras")
    keras.saving.save_model(model, path / "1.keras")
    keras.models.save_model(model, path / "2.keras")
    model.save_weights(path / "3.weights.h5")
    keras.saving.save_weights(model, path / "4.weights.h5")
    model.load_weights(path / "4.weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is an old one
        legacy_h5_format.save_model_to_hdf5(model, path / "5.h5")
    found += keras.saving.load_model(path / "5.h5", compile=False).get_weights()
    for file in sorted(path.glob("*.keras")):
        found += keras.saving.load_model(file).get_weights()
        found += sorted(zipfile.ZipFile(file).namelist())
    before = model.get_weights()
    model.set_weights([0 * weight for weight in before])
    model.load_weights(path / "3.weights.h5")
    found += model.get_weights()
    model.set_weights([0 * weight for weight in before])
    model.load_weights(path / "4.weights.h5")
    return [*found, *before, *model.get_weights()]


@case(PERMANENT, keras.callbacks.SwapEMAWeights, "_tf_swap_variables")
def swapped_averages(path):
    model = compiled(keras.optimizers.SGD(0.1, use_ema=True))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    data = np.ones((4, 2)), np.ones((4, 1))
    history = model.fit(*data, epochs=2, callbacks=[swap], validation_data=data, verbose=0)
    return [*history.history["val_loss"], *model.get_weights()]


@case(PERMANENT, keras.Model, "export")
def a_saved_model(path):
    compiled().export(path, verbose=False)
    loaded = tf.saved_model.load(path)
    return [loaded.serve(tf.constant(X, "float32"))]


@case(PERMANENT, Variable, "_initialize", "_direct_assign", "_map_aggregation")
@case(PERMANENT, Variable, "assign_add", "assign_sub", "__int__", "__float__")
def a_variable(path):
    variable = keras.Variable(2.5, aggregation="sum", trainable=False)
    variable.assign(3.5)
    variable.assign_add(1.0)
    variable.assign_sub(0.25)
    metric = keras.metrics.Mean()
    metric.update_state([1.0, 4.0])
    types = [type(v.value).__name__ for v in (variable, *metric.variables)]
    aggregations = [str(v.value.aggregation) for v in (variable, *metric.variables)]
    return [variable, int(variable), float(variable), metric.result(), *types, *aggregations]


@case(PERMANENT, keras.layers.Layer, "add_weight")
def a_layers_state(path):
    layer, found = keras.layers.Layer(), []
    for aggregation in ("none", "mean", "sum", "only_first_replica"):
        weight = layer.add_weight(shape=(2,), initializer="ones", aggregation=aggregation)
        weight.assign_add([1.0, 2.0])
        found += [weight, weight.aggregation, str(weight.value.aggregation)]
    return found


@case(PERMANENT, keras.layers.RNN, "_create_state_variables")
def a_stateful_rnn(path):
    keras.utils.set_random_seed(7)
    layer = keras.layers.GRU(2, stateful=True)
    outputs = [layer(X.reshape(2, 3, 2)) for _ in range(2)]
    return [*outputs, *layer.states]


IN_PLACE, FOUND = {}, {}  # what cases gave, which several names share


@pytest.mark.parametrize("key", PERMANENT, ids=title)
def test_a_replacement_is_the_original_outside_of_any_scope(key, monkeypatch, tmp_path):
    owner, name = key
    program, replaced = PERMANENT[key], vars(owner)[name]
    if program not in IN_PLACE:
        IN_PLACE[program] = result_of(program, tmp_path / "in place")
    replacement = getattr(replaced, "fget", replaced)
    function, called = upstream(replacement), []
    assert function is not replacement

    @functools.wraps(function)
    def original(*args, **kwargs):
        called.append(True)
        return function(*args, **kwargs)

    monkeypatch.setattr(
        owner, name, property(original) if isinstance(replaced, property) else original
    )
    assert result_of(program, tmp_path / "original") == IN_PLACE[program]
    assert called, f"the case never calls {title(key)}"


def result_of(program, path):
    path.mkdir()
    return [bits(value) for value in program(path)]


def bits(value):
    value = np.asarray(value)
    return value.dtype.str, value.shape, value.tobytes()


# -- temporarily, or on objects of tfdist's own ----------------------------------------


def of_class(thing, name):
    """A pair: a method of an object, and that of its class."""
    return getattr(thing, name).__func__, vars(type(thing)).get(name) or getattr(type(thing), name)


class Looking(keras.Model):
    """Notes, in the step that is traced, what stands in its loss, metrics and iterator."""

    def __init__(self):
        super().__init__()
        self.dense, self.found = keras.layers.Dense(1), []

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, *args, **kwargs):
        loss = super().compute_loss(*args, **kwargs)
        compiled_loss, metric = self._compile_loss, self.metrics[0]
        heads = [type(one.loss) for one in compiled_loss._flat_losses]
        inner = [type(one) for one in compiled_loss._metrics]
        self.found += [
            of_class(compiled_loss, "build"),
            (heads, [keras.losses.MeanSquaredError, keras.losses.MeanAbsoluteError]),
            (inner, [keras.metrics.Mean] * 2),
            of_class(metric, "result"),
        ]
        return loss


@case(TEMPORARY, compile_utils.CompileLoss, "build", "_flat_losses", "_metrics")
@case(TEMPORARY, keras.metrics.Metric, "result")
def inside_of_a_step(monkeypatch):
    model = Looking()
    model.call = lambda x: [model.dense(x), model.dense(x)]
    model.compile("sgd", [keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()])
    model.fit(X, [Y, Y], verbose=0)
    return model.found


@case(TEMPORARY, BaseOptimizer, "build")
def an_optimizer_that_keras_builds(monkeypatch):
    model, found = compiled("adam"), []
    add = model.optimizer.add_optimizer_variables  # which `build` calls
    look = lambda *a, **k: (found.append("build" in vars(model.optimizer)), add(*a, **k))[1]  # noqa: E731
    monkeypatch.setattr(model.optimizer, "add_optimizer_variables", look)
    model.fit(X, Y, verbose=0)
    return [(found, [False] * len(found)), (bool(found), True)]


@case(TEMPORARY, TensorFlowTrainer, "train_step")
def a_model_that_is_not_pruned(monkeypatch):
    model = compiled()
    model.fit(X, Y, verbose=0)
    return [("train_step" in vars(model), False), (of_class(model, "train_step"))]


@case(TEMPORARY, keras.Layer, "call")
@case(TEMPORARY, keras.Model, "compiled")
def a_model_that_is_not_compressed(monkeypatch):
    model = compiled()
    model.fit(X, Y, verbose=0)
    return [("call" in vars(model.layers[0]), False), (model.compiled, True)]


@case(TEMPORARY, tf.random, "shuffle")
def arrays_that_keras_shuffles(monkeypatch):
    stock, during = tf.random.shuffle, []
    make = tf.data.Dataset.range  # Keras' adapter makes its dataset of it
    monkeypatch.setattr(
        tf.data.Dataset,
        "range",
        lambda *a, **k: (during.append(tf.random.shuffle), make(*a, **k))[1],
    )
    compiled().fit(X, Y, verbose=0)
    return [(during, [stock] * len(during)), (bool(during), True)]


@case(TEMPORARY, Trainer, "_initial_epoch")
@case(TEMPORARY, EpochIterator, "_enumerate_iterator", "_num_batches", "_current_iterator")
def an_epoch_iterator(monkeypatch):
    model, found = compiled(), []

    class Look(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            data = made[0]
            found.extend([of_class(data, "_enumerate_iterator"), (data._num_batches, 2)])
            found.append((type(data._current_iterator), type(iter(tf.data.Dataset.range(1)))))
            found.append((self.model._initial_epoch, None))

    made, init = [], TFEpochIterator.__init__
    monkeypatch.setattr(
        TFEpochIterator,
        "__init__",
        lambda self, *a, **k: (made.append(self), init(self, *a, **k))[1],
    )
    model.fit(X, Y, batch_size=3, verbose=0, callbacks=[Look()])
    return found


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[2 * index : 2 * index + 2], Y[2 * index : 2 * index + 2]


@case(TEMPORARY, PyDatasetAdapter, "_finite_generator", "enqueuer")
def a_py_dataset(monkeypatch):
    data = TFEpochIterator(
        x=Rows(workers=2), shuffle=True, distribute_strategy=tf.distribute.get_strategy()
    )
    adapter = data.data_adapter
    return [of_class(adapter, "_finite_generator"), (adapter.enqueuer is None, False)]


@case(TEMPORARY, tf.distribute.StrategyExtended, "experimental_enable_get_next_as_optional")
@case(TEMPORARY, tf.distribute.DistributedDataset, "_cardinality")
def data_of_a_stock_strategy(monkeypatch):
    strategy = tf.distribute.MirroredStrategy(devices.PAIR)
    data = TFEpochIterator(x=X, y=Y, shuffle=True, batch_size=2, distribute_strategy=strategy)
    return [
        (strategy.extended.experimental_enable_get_next_as_optional, True),
        (int(data._distributed_dataset._cardinality), tf.data.UNKNOWN_CARDINALITY),
    ]


@case(
    TEMPORARY,
    mirrored_strategy.MirroredExtended,
    *("_use_merge_call", "_create_variable", "_get_variable_creator_initial_value"),
    *("_replica_ctx_all_reduce", "_get_cross_device_ops"),
)
@case(TEMPORARY, tf.distribute.Strategy, "_collective_key_base")
@case(TEMPORARY, cross_device_utils.CollectiveReplicaLauncher, "all_reduce")
def a_stock_strategy(monkeypatch):
    two_cpus()  # one of tfdist's beside it
    strategy = tf.distribute.MirroredStrategy(devices.PAIR)
    names = [name for owner, name in TEMPORARY if owner is mirrored_strategy.MirroredExtended]
    launchers = strategy.extended._collective_ops._launchers
    return [
        *(of_class(strategy.extended, name) for name in names),
        *(of_class(launcher, "all_reduce") for launcher in launchers),
        ("_collective_key_base" in vars(strategy), False),
        (strategy._collective_key_base, 0),
    ]


@case(
    TEMPORARY,
    parameter_server_strategy_v2.ParameterServerStrategyV2Extended,
    *("_use_merge_call", "_create_variable", "_update", "_replica_ctx_update"),
)
@case(TEMPORARY, tf.Variable, "_distribute_strategy")
@case(TEMPORARY, tf.Graph, "_distribution_strategy_stack")
@case(TEMPORARY, Variable, "_value")
def parameter_servers(monkeypatch):
    stack, values = [], []

    @tf.function(autograph=False)
    def step(metric):
        stack.append(tf.compat.v1.get_default_graph()._distribution_strategy_stack)
        metric.update_state(1.0)
        values.extend(type(v._value) for v in metric.variables)

    with stock_pair().scope():
        step(keras.metrics.Mean())
    kinds = [type(v.value) for v in keras.metrics.Mean().variables]
    return [
        (tf.Variable(1.0)._distribute_strategy, None),
        (len(stack[0]), 1),
        ([kind.__name__ for kind in values], ["SyncOnReadVariable"] * len(kinds)),
    ]


@case(
    TEMPORARY,
    collective_all_reduce_strategy.CollectiveAllReduceExtended,
    "_initialize_local_devices",
)
def stock_workers(monkeypatch):
    monkeypatch.setenv("TFDIST_LOCAL_RANK", "0")  # else it says that it trains alone
    tfdist.MultiWorkerMirroredStrategy()
    return [(tf.distribute.MultiWorkerMirroredStrategy().num_replicas_in_sync, 1)]


@pytest.mark.parametrize("key", TEMPORARY, ids=title)
def test_nothing_is_replaced_outside_of_any_scope(key, monkeypatch):
    owner, name = key
    program = TEMPORARY[key]
    if program not in FOUND:
        FOUND[program] = program(monkeypatch)
    pairs = FOUND[program]
    assert pairs
    for found, expected in pairs:
        assert found == expected
    assert upstream(getattr(owner, name, None)) is getattr(owner, name, None)


# -- all of them ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("docs_patches", DOCS / "patches.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.import_all()
    return module


def test_each_patch_has_its_case(script):
    permanent = {(patch.owner, patch.name) for patch in PATCHES if patch.lasts is None}
    temporary = {(patch.owner, patch.name) for patch in PATCHES if patch.lasts is not None}
    assert {title(key) for key in permanent ^ set(PERMANENT)} == set()
    assert {title(key) for key in temporary ^ set(TEMPORARY)} == set()


def test_the_page_of_the_docs_is_what_the_script_prints(script):
    assert script.PAGE.read_text("utf-8") == script.page(), "run `make docs-tables`"


def test_whatever_compat_assigns_to_others_is_on_the_page():
    """What is replaced without `replace`: `x.name = ...` and `vars(x)["name"] = ...`."""
    listed = {patch.name for patch in PATCHES}
    own = {"depth", "deterministic", "__name__", "__doc__", "__wrapped__"}
    for path in sorted(pathlib.Path(PACKAGE, "compat").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                name = node.attr
                if isinstance(node.value, ast.Name) and node.value.id == "self":
                    continue
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                if not (
                    isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "vars"
                ):
                    continue
                name = getattr(node.slice, "value", None)
            else:
                continue
            assert name in listed | own or name.startswith("_tfdist"), f"{path.name}: {name}"
