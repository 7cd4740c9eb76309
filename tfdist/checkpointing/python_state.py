"""What of a training lives in Python: random numbers, History, other callbacks.

Each worker keeps its own, since each has its own process.
"""

import random

import numpy as np
import tensorflow as tf

from tfdist.compat import coordination, training_state


def random_state():
    """The state of Python's and NumPy's global generators."""
    return {"python": random.getstate(), "numpy": np.random.get_state()}


def set_random_state(state):
    """Undoes what was drawn since `random_state` returned `state`."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])


def seed():
    """TensorFlow's seed, or None, and whether it is one of `coordination.choose_seed`."""
    return [coordination.global_seed(), coordination.seed_was_chosen()]


def set_seed(number, was_chosen):
    """Sets TensorFlow's seed, unless it is in force already."""
    if seed() == [number, was_chosen]:
        return
    if was_chosen:
        coordination.choose_seed(number)
    else:
        tf.random.set_seed(number)


def callbacks_state(callbacks):
    """The state of those callbacks that have any.

    Args:
        callbacks: list of Keras callbacks.

    Returns:
        A list of `[class name, state]`.
    """
    return [[type(c).__name__, _state(c)] for c in callbacks if has_state(c)]


def set_callbacks_state(callbacks, states):
    """Gives callbacks the states of `callbacks_state`, each class in its order."""
    left = list(states)
    for callback in callbacks:
        found = next((s for s in left if s[0] == type(callback).__name__), None)
        if found is None or not has_state(callback):
            continue
        left.remove(found)
        if hasattr(callback, "set_state"):
            callback.set_state(found[1])
        else:
            for name, value in found[1].items():
                setattr(callback, name, value)


def has_state(callback):
    """Whether a checkpoint holds a callback's state."""
    return hasattr(callback, "get_state") or bool(_attributes(callback))


def _state(callback):
    if hasattr(callback, "get_state"):
        return callback.get_state()
    return {name: getattr(callback, name) for name in _attributes(callback)}


def _attributes(callback):
    for known, names in training_state.CALLBACK_STATE.items():
        if isinstance(callback, known):
            # Some are made by the first `on_train_begin` or `on_epoch_begin`.
            return [name for name in names if hasattr(callback, name)]
    return []
