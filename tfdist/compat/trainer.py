"""Keras' trainer under a tfdist strategy: the strategy builds the step functions.

Needs: `TensorFlowTrainer.make_train_function`, `.make_test_function`,
`.make_predict_function`, `.fit`, `.evaluate`, `.predict` (public, replaced for
every model), `._get_metrics_result_or_logs`, `._autoconvert_optionals`,
`._resolve_auto_jit_compile`, `._flatten_layers`, `model_supports_jit`,
`Model._distribute_strategy`, `Model._compile_loss`, `Model._compile_metrics` with its
`_user_metrics` and `_user_weighted_metrics`, `TFEpochIterator._distributed_dataset`,
`._num_batches` and `.data_adapter`, and `ArrayDataAdapter`, to tell arrays, whose length is
sure, from what claims one.
Why: Keras' own step functions average the replicas' metrics (and cannot do even
that on several workers), and read one log at a time with a collective each.
"""

import contextlib
import functools
import inspect

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer, TFEpochIterator
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.trainer import model_supports_jit

from tfdist.compat import (
    array_order,
    datasets,
    gpu_dtypes,
    hooks,
    inputs,
    py_dataset,
)
from tfdist.compat.replacing import note, replace
from tfdist.compat.strategy import is_tfdist

note(
    __name__,
    TensorFlowTrainer,
    "on a model without a strategy that was given to `tfdist.model_compression.prune`",
    train_step=("always", "masks what was pruned, behind the step"),
)


def install():
    mine = "a model of a tfdist strategy"
    for kind in ("train", "test", "predict"):
        replace(
            TensorFlowTrainer,
            f"make_{kind}_function",
            functools.partial(_make_function, kind),
            mine,
            "lets the strategy make the function",
        )
    for method in ("fit", "evaluate", "predict"):
        replace(
            TensorFlowTrainer,
            method,
            functools.partial(_checked, method),
            f"{mine}; a plain model on a worker of a cluster",
            "checks the call before any work, and explains what failed; warns of the plain model",
        )
    replace(
        TensorFlowTrainer,
        "_get_metrics_result_or_logs",
        _after_the_steps,
        mine,
        "lets the strategy say what an epoch's logs are",
    )
    replace(
        TensorFlowTrainer,
        "_resolve_auto_jit_compile",
        _as_on_one_device,
        f"{mine} with one replica in this process",
        "compiles where Keras does without a strategy",
    )
    replace(
        TFEpochIterator,
        "__init__",
        _check_data,
        mine,
        "distributes the data by the strategy, and checks them",
    )


def strategy_of(model):
    """The tfdist strategy that `model` was created under, or None."""
    strategy = getattr(model, "_distribute_strategy", None)
    return strategy if is_tfdist(strategy) else None


def has_keras_steps(model):
    """Whether the train and test step of `model` are Keras' own."""
    return (
        type(model).train_step is TensorFlowTrainer.train_step
        and type(model).test_step is TensorFlowTrainer.test_step
    )


def has_keras_loss(model):
    """Whether the train step of `model`, and how it computes its loss, are Keras' own."""
    return has_keras_steps(model) and type(model).compute_loss is keras.Model.compute_loss


def optimizer_strategy(optimizer):
    """The strategy that was in force when `optimizer` was created."""
    return getattr(optimizer, "_distribution_strategy", None)


def metrics_of(model):
    """All metrics of `model`, those also that Keras lists after its first step only."""
    compiled = getattr(model, "_compile_metrics", None)
    given = (
        getattr(compiled, "_user_metrics", None),
        getattr(compiled, "_user_weighted_metrics", None),
    )
    waiting = [m for m in keras.tree.flatten(given) if isinstance(m, keras.metrics.Metric)]
    return [*model.metrics, *waiting]


def state_rows(model):
    """How many rows the states of stateful RNN layers have: a dict by the layers' names."""
    found = {}
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.stateful and layer.built:
            for state in keras.tree.flatten(layer.states):
                found[layer.name] = state.shape[0]
    return found


def optionals_to_none(model, step_function):
    """Keras' wrapper that turns a batch's empty optionals into None."""
    return model._autoconvert_optionals(step_function)


def _as_on_one_device(original):
    """Without a strategy Keras compiles on a GPU by itself; with one it leaves it out."""

    def _resolve_auto_jit_compile(self):
        strategy = strategy_of(self)
        # More replicas in one process would each compile their own.
        if strategy is None or strategy.is_asynchronous or strategy.num_local_replicas > 1:
            return original(self)
        return gpu_dtypes.is_on_gpus(strategy) and model_supports_jit(self)

    return _resolve_auto_jit_compile


@contextlib.contextmanager
def behind_train_step(model, function):
    """Calls `function` at the end of each train step of a plain model, traced with it."""
    train_step = model.train_step

    def step(data):
        logs = train_step(data)
        function()
        return logs

    vars(model)["train_step"] = step  # past Keras, which would track it
    try:
        yield
    finally:
        if vars(model).get("train_step") is step:
            del vars(model)["train_step"]


def _make_function(kind, original):
    attribute = f"{kind}_function"

    def make(self, force=False):
        strategy = strategy_of(self)
        if strategy is None:
            return original(self, force)
        if getattr(self, attribute) is None or force:
            setattr(self, attribute, strategy.make_keras_function(self, kind))
        return getattr(self, attribute)

    return make


def _checked(method, original):
    signature = inspect.signature(original)

    @functools.wraps(original)
    def checked(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        try:
            around = hooks.registered().around(method, self, bound.arguments)
            with around, _calling(self, method):
                return original(*bound.args, **bound.kwargs)
        except tf.errors.OpError as error:
            strategy = strategy_of(self)
            explained = strategy and strategy.explain(error, method)
            if not explained:
                raise
            raise explained from error

    return checked


def _check_data(original):
    @functools.wraps(original)
    def __init__(self, distribute_strategy=None, *args, **kwargs):
        with array_order.shuffling() as order:
            if not is_tfdist(distribute_strategy):
                original(self, distribute_strategy, *args, **kwargs)
                order(self.data_adapter)
                return
            with distribute_strategy.distributing_for_keras():
                original(self, distribute_strategy, *args, **kwargs)
            order(self.data_adapter)
        if hasattr(self._distributed_dataset, "of_length"):
            self._distributed_dataset = self._distributed_dataset.of_length(self.steps_per_epoch)
        if isinstance(self.data_adapter, ArrayDataAdapter):
            inputs.set_length(self._distributed_dataset, self._num_batches)
        py_dataset.agree_on_order(self.data_adapter)
        try:
            batch_size = self.data_adapter.batch_size
        except AttributeError:  # of a dataset that the user has distributed
            batch_size = None
        batch_size = batch_size or datasets.batch_size(kwargs.get("x"))
        hooks.registered().before_epochs(distribute_strategy, self._num_batches, batch_size)

    return __init__


def _after_the_steps(original):
    """Where the steps of an epoch of `fit`, or of an evaluation, have ended."""

    def _get_metrics_result_or_logs(self, logs):
        strategy = strategy_of(self)
        if strategy is None:
            return original(self, logs)
        method = vars(self)["_tfdist_calls"][-1]
        return strategy.epoch_logs(self, method, logs, functools.partial(original, self))

    return _get_metrics_result_or_logs


@contextlib.contextmanager
def _calling(model, method):
    """Inside, `method` is the innermost of the calls of Keras' methods that go on."""
    calls = vars(model).setdefault("_tfdist_calls", [])
    calls.append(method)
    try:
        yield
    finally:
        calls.pop()
