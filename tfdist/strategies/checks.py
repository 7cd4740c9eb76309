"""What `fit`, `evaluate` and `predict` check before any work, under a tfdist strategy."""

import contextlib
import copy
import functools
import inspect
import json
import os
import sys
import warnings

import keras
import tensorflow as tf

from tfdist.compat import coordination
from tfdist.compat import strategy as engine
from tfdist.compat import trainer as compat_trainer
from tfdist.data.fingerprint import fingerprints
from tfdist.strategies import stateful
from tfdist.sync.after_update import chain_within

_DATA = ("x", "y", "sample_weight", "validation_data")
_OF_EPOCHS = ("number of batches", "batch size", "random seed")
# Callbacks that write files without the functions that `compat/saving.py` replaces.
_WRITERS = (keras.callbacks.TensorBoard, keras.callbacks.OrbaxCheckpoint)


@contextlib.contextmanager
def around(method, model, arguments):
    """What happens before and after a call of Keras' own method.

    A callback with a method `around_fit(model, arguments)`, which returns a context
    manager, stands around `fit` as a whole: before the data is looked at, and after
    the last callback. One with a true attribute `stands_outermost` stands around the
    others: what they do at the end is done when its own end begins.

    Args:
        method: "fit", "evaluate" or "predict".
        model: the Keras model.
        arguments: dict of the call's arguments by name; changed in place.
    """
    if compat_trainer.strategy_of(model) is None:
        without_scope(method)
    else:
        before(method, model, arguments)
    with contextlib.ExitStack() as stack:
        if method == "fit":
            stack.enter_context(_links_of_inner_models(model))
        for callback in _outermost_first(callbacks_of(arguments)) if method == "fit" else ():
            if hasattr(callback, "around_fit"):
                stack.enter_context(callback.around_fit(model, arguments))
        yield


@contextlib.contextmanager
def _links_of_inner_models(model):
    """What is linked behind the updates of models inside of `model` is a part of its steps.

    So is what models hold that only share layers with it.
    """
    inner = chain_within(model, outermost=False)
    if not inner:
        yield
        return
    plain = compat_trainer.strategy_of(model) is None
    run = functools.partial(inner.run, None, True)
    before = [chain.trained for chain in inner.parts]
    try:
        for chain in inner.parts:
            chain.trained = model
        with compat_trainer.behind_train_step(model, run) if plain else contextlib.nullcontext():
            model.train_function = None  # one that was made before does without
            yield
    finally:
        for chain, trained in zip(inner.parts, before):
            chain.trained = trained
        if plain:
            model.train_function = None


def _outermost_first(callbacks):
    return sorted(callbacks, key=lambda one: not getattr(one, "stands_outermost", False))


def callbacks_of(arguments):
    """The callbacks in a call's arguments, as one list."""
    given = arguments.get("callbacks")
    if isinstance(given, keras.callbacks.CallbackList):
        return list(given.callbacks)
    return keras.tree.flatten(given) if given else []


def before(method, model, arguments):
    """Checks the model, and makes the arguments those of this worker.

    Args:
        method: "fit", "evaluate" or "predict".
        model: the Keras model, made under a tfdist strategy.
        arguments: dict of the call's arguments by name; changed in place.

    Raises:
        ValueError: a part of the model was made outside the scope.
    """
    strategy = compat_trainer.strategy_of(model)
    _check_made_in_scope(method, model, strategy)
    strategy.state_rows = compat_trainer.state_rows(model)
    if strategy.is_asynchronous:
        for name in ("x", "validation_data"):
            if inspect.isroutine(arguments.get(name)):
                arguments[name] = strategy.distribute_datasets_from_function(arguments[name])
    strategy.next_call = {"method": method, **_facts(method, model, arguments)}
    if not strategy.is_chief:
        arguments["verbose"] = 0
        if arguments.get("callbacks"):
            arguments["callbacks"] = _without_writers(arguments["callbacks"])


def before_epochs(strategy, num_batches, batch_size):
    """Checks the data.

    Args:
        strategy: a tfdist strategy.
        num_batches: global batches an epoch, or None if that is not known.
        batch_size: examples of a global batch, or None if that is not known.

    Raises:
        ValueError: no data.
    """
    if num_batches == 0:
        raise empty_dataset()
    stateful.check(strategy, strategy.state_rows, num_batches, batch_size)
    if strategy.next_call is not None:
        found = num_batches, batch_size, coordination.global_seed()
        strategy.next_call.update(zip(_OF_EPOCHS, found))


def empty_dataset():
    """The error for data without a single batch."""
    return ValueError(
        "The dataset is empty: received 0 batches, expected at least one. Check the arrays' "
        "first dimension, or the files and filters of the `tf.data.Dataset`."
    )


# Those of `tf.distribute` that have a namesake in tfdist which trains by tfdist's steps. (Their
# classes have other names: `CollectiveAllReduceStrategy`.)
_WITH_A_NAMESAKE = ("MultiWorkerMirroredStrategy", "MirroredStrategy", "ParameterServerStrategy")


def not_trained_by_tfdist(what, strategy):
    """The error for what works in the steps of tfdist alone.

    Args:
        what: str, such as a callback's name.
        strategy: the model's, whose steps are Keras' own.
    """
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return ValueError(
            f"`{what}` works in the training steps of tfdist; the model was made under a "
            "TPUStrategy, where Keras trains by its own. Leave it out, or train on GPUs or CPUs "
            "under another strategy of tfdist."
        )
    same = [n for n in _WITH_A_NAMESAKE if isinstance(strategy, getattr(tf.distribute, n))]
    name = same[0] if same else type(strategy).__name__
    instead = f"`tfdist.{name}`, which takes the same arguments" if same else "one of them"
    return ValueError(
        f"`{what}` works under the strategies of tfdist; the model was made under tf.distribute's "
        f"{name}. Use {instead}."
    )


def without_scope(method):
    """Checks that a model made under no tfdist strategy is meant to train alone.

    A worker that has joined a cluster may train one for itself (a teacher, a baseline);
    it is told so, in case the scope was forgotten.

    Raises:
        ValueError: it is in a scope.
    """
    active = tf.distribute.get_strategy() if tf.distribute.has_strategy() else None
    if engine.is_tfdist(active):
        raise ValueError(
            f"`{method}` was called inside the scope of a {type(active).__name__}, but the model "
            "was created outside the strategy's scope: it would train on this worker alone. "
            "Create and compile the model inside `with strategy.scope():`."
        )
    multi_worker = sys.modules.get("tfdist.strategies.multi_worker")
    cluster = multi_worker and multi_worker.joined_cluster()
    if cluster is not None and method == "fit":
        warnings.warn(
            f"`fit` of a model that was created outside the strategy's scope: it trains on this "
            f"worker alone (worker {cluster.index} of {len(cluster.addresses)}), on all of the "
            "data that it is given here. If the workers should train one model together, create "
            "and compile it inside `with strategy.scope():`.",
            stacklevel=6,
        )


def _check_made_in_scope(method, model, strategy):
    name = type(strategy).__name__
    for variable in model.variables:
        if not engine.belongs_to(variable, strategy):
            raise ValueError(
                f"`{method}`: the variable {variable.path!r} was created outside the scope of the "
                f"model's {name}, so replicas would share it. Create all layers and load all "
                "weights inside `with strategy.scope():`."
            )
    optimizer = getattr(model, "optimizer", None)
    parts = [optimizer] if optimizer is not None else []
    parts += [getattr(optimizer, "inner_optimizer", None)] if optimizer is not None else []
    for part in parts:
        if part is not None and compat_trainer.optimizer_strategy(part) is not strategy:
            raise ValueError(
                f"`{method}`: the optimizer {part.name!r} was created outside the scope of the "
                f"model's {name}. Call `model.compile(...)`, and make the optimizer, inside "
                "`with strategy.scope():`."
            )
    for metric in compat_trainer.metrics_of(model):
        for variable in metric.variables:
            if not engine.belongs_to(variable, strategy):
                raise ValueError(
                    f"`{method}`: the metric {metric.name!r} was created outside the scope of the "
                    f"model's {name}. Call `model.compile(...)` inside `with strategy.scope():`."
                )


def _facts(method, model, arguments):
    """What must be the same on all workers, in the order in which a difference is named."""
    facts = _trial(arguments)
    facts["variable"] = [f"{tuple(v.shape)} {v.dtype}" for v in model.variables]
    if method == "fit" and getattr(model, "optimizer", None) is not None:
        facts["optimizer"] = _config(model.optimizer)
    facts.update(dict.fromkeys(_OF_EPOCHS))
    if compat_trainer.strategy_of(model).num_workers > 1:
        facts["data"] = fingerprints({name: arguments.get(name) for name in _DATA})
    return facts


def _trial(arguments):
    """What KerasTuner tries: no variable shows, say, another dropout rate on another worker."""
    for callback in callbacks_of(arguments):
        tried = getattr(getattr(callback, "trial", None), "hyperparameters", None)
        if tried is not None:
            values = json.dumps(getattr(tried, "values", None), sort_keys=True, default=str)
            return {"choice of KerasTuner (which needs the same `seed` on all workers)": values}
    return {}


def _config(optimizer):
    try:
        return json.dumps(keras.saving.serialize_keras_object(optimizer), default=str)
    except (TypeError, ValueError, NotImplementedError):  # a custom one without a config
        return type(optimizer).__name__


def _without_writers(callbacks):
    """The callbacks for a worker that is not the chief.

    Workers hold the same logs, so a second writer adds nothing, and two that
    write one file corrupt it. `ModelCheckpoint` stays: saving does nothing there.
    What must behave differently is a copy: the user's own stay as they are.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # `fit` passes its own on to `evaluate`; in a new list its callbacks would be
        # told that there is one epoch.
        return callbacks
    if not isinstance(callbacks, (list, tuple)):
        if not isinstance(callbacks, keras.callbacks.Callback):
            return callbacks
        callbacks = [callbacks]
    kept = []
    for callback in callbacks:
        if isinstance(callback, _WRITERS):
            continue
        if isinstance(callback, keras.callbacks.CSVLogger):
            callback = copy.copy(callback)
            callback.filename = os.devnull
        elif isinstance(callback, keras.callbacks.BackupAndRestore):
            callback = copy.copy(callback)
            for hook in ("on_epoch_end", "on_train_batch_end", "on_train_end"):
                setattr(callback, hook, lambda *args, **kwargs: None)
        kept.append(callback)
    return kept
