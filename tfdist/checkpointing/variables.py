"""The variables of a training: which there are, their bits, and how they come back.

A variable that replicas hold in common is written by the chief and sent to all.
One that each replica keeps for itself is written by its worker, replica by replica:
a metric's sums (a sum over replicas would round differently when it goes on), and
everything while a gradient-sync algorithm lets replicas go their own ways.
"""

import contextlib

import tensorflow as tf

from tfdist.checkpointing.encoding import with_dtype
from tfdist.compat import strategy as engine
from tfdist.compat import training_state
from tfdist.compat.layout import is_alike
from tfdist.compat.variables import global_copy
from tfdist.strategies.metric_sums import keep_global_copies
from tfdist.strategies.variables import describe, optimizers_of, send_to_all


def groups_of(model, strategy):
    """The distributed variables of a training.

    Args:
        model: the Keras model.
        strategy: its strategy.

    Returns:
        A dict of lists of variables, by what they belong to; the same order in
        each process that runs the same program.
    """
    groups = {"model": model.variables}
    for name, optimizer in optimizers_of(model).items():
        groups[name] = optimizer.variables
    states = training_state.states_of(model)
    if states:
        groups["states"] = states
    groups["metrics"] = [v for metric in model.metrics for v in metric.variables]
    state = training_state.global_seed_state()
    if state is not None:
        groups["keras.random"] = [state]
    seen, distributed = set(), {}
    for name, variables in groups.items():
        new = [v for v in variables if id(v) not in seen]
        seen |= {id(v) for v in new}
        distributed[name] = [v.value for v in new]
    sync = strategy.gradient_sync_of(model)
    if sync is not None:
        distributed["gradient sync"] = sync.state_variables()
    return distributed


def structure_of(model, strategy):
    """What must be equal for a checkpoint to fit a model, and how to build its optimizers.

    Returns:
        A dict of JSON values.
    """
    places = {id(v): place for place, v in enumerate(model.variables)}
    optimizers = {}
    for name, optimizer in optimizers_of(model).items():
        optimized = training_state.optimized_variables(optimizer)
        optimizers[name] = {
            "class": type(optimizer).__name__,
            "optimizes": [places[id(v)] for v in optimized if id(v) in places],
        }
    variables = {name: describe(group) for name, group in groups_of(model, strategy).items()}
    return {"variables": variables, "optimizers": optimizers}


def make_ready(model, strategy, structure):
    """Builds what a checkpoint with this `structure` holds and the model has not built yet.

    Raises:
        ValueError: it is the structure of another model.
    """
    if "keras.random" in structure["variables"]:
        with strategy.scope():
            training_state.global_seed_state(create=True)
    optimizers = optimizers_of(model)
    for name, theirs in structure["optimizers"].items():
        optimizer = optimizers.get(name)
        if optimizer is None or type(optimizer).__name__ != theirs["class"]:
            mine = "none" if optimizer is None else type(optimizer).__name__
            raise _another_model(f"its {name!r} is a {theirs['class']}, this model's {mine}")
        variables = model.variables
        if not optimizer.built and len(variables) > max(theirs["optimizes"], default=-1):
            with strategy.scope():
                optimizer.build([variables[place] for place in theirs["optimizes"]])
    mine = {name: describe(group) for name, group in groups_of(model, strategy).items()}
    for name, theirs in structure["variables"].items():
        _compare(name, mine.get(name, []), theirs)


def _compare(group, mine, theirs):
    if len(mine) != len(theirs):
        hint = "" if mine else "; if it is the same model, build it before `fit`"
        raise _another_model(
            f"it has {len(theirs)} variables of the {group}, this model {len(mine)}{hint}"
        )
    for place, (a, b) in enumerate(zip(mine, theirs)):
        if a != b:
            raise _another_model(
                f"variable {place} of the {group} is {b} there and {a} in this model"
            )


def _another_model(difference):
    return ValueError(
        f"The checkpoint is of another model: {difference}. Expected the model that was "
        "trained when it was written: give this one a directory of its own."
    )


def read(model, strategy):
    """The bits of all variables that this worker writes.

    Returns:
        `(arrays, dtypes)`: dicts of NumPy arrays and of dtypes' names, by name.
    """
    strategy.settle(model)
    sync = strategy.gradient_sync_of(model)
    with sync.showing_own() if sync is not None else contextlib.nullcontext():
        arrays = _read(model, strategy, apart=sync is not None and sync.algorithm.local)
    return arrays, {name: array.dtype.name for name, array in arrays.items()}


def _read(model, strategy, apart):
    arrays = {}
    for name, variable in _numbered(model, strategy):
        # The state of an algorithm that keeps replicas equal may differ, too: residuals.
        own = apart or name.startswith("gradient sync") or not is_alike(variable)
        if own or engine.is_sync_on_read(variable):
            for replica, component in enumerate(engine.local_components(variable)):
                arrays[f"{name} replica {replica}"] = component.numpy()
            copy = global_copy(variable)
            if copy is not None and strategy.is_chief:
                arrays[f"{name} global"] = engine.local_components(copy)[0].numpy()
        elif strategy.is_chief:
            arrays[name] = engine.local_components(variable)[0].numpy()
    return arrays


def restore(model, strategy, arrays, dtypes):
    """Gives all variables the bits that `read` returned. All workers must call it.

    Args:
        model: the Keras model, made ready.
        strategy: its strategy.
        arrays: dict of NumPy arrays, of this worker's file; the chief's hold what
            replicas have in common.
        dtypes: dict of names of dtypes.
    """
    several = strategy.num_workers > 1
    if several:
        # Or the first step would give all workers the chief's values of new variables.
        strategy.synchronize_new_variables()
        keep_global_copies(strategy, model)
        strategy.synchronize_new_variables()
    common = {}
    for name, variable in _numbered(model, strategy):
        if f"{name} replica 0" in arrays:
            for replica, component in enumerate(engine.local_components(variable)):
                part = f"{name} replica {replica}"
                component.assign(with_dtype(arrays[part], dtypes[part]))
            if several and global_copy(variable) is not None:
                common[f"{name} global"] = global_copy(variable)
        elif name.startswith("gradient sync"):
            continue  # written when `fit` had ended, and the algorithm was gone
        else:
            common[name] = variable
    if strategy.is_chief:
        for name, variable in common.items():
            value = tf.constant(with_dtype(arrays[name], dtypes[name]))
            for component in engine.local_components(variable):
                component.assign(value)
    if several:
        with strategy.watching("sending the checkpoint's variables"):
            send_to_all(strategy, list(common.values()))


def _numbered(model, strategy):
    for group, variables in groups_of(model, strategy).items():
        for place, variable in enumerate(variables):
            yield f"{group} {place}", variable
