"""What users do with `fit`, `evaluate`, `predict` and callbacks, each as a tiny training.

`run` tries one under a strategy, or none, and returns numbers that must not
depend on it: `assert_same` compares them with those of plain Keras in one process.
"""

import contextlib
import pathlib
import sys
import tempfile

import keras
import numpy as np

from feature_cases import (
    callbacks,
    common,
    data,
    inference,
    layer_state,
    models,
    own_steps,
    precision,
    training,
    updates,
)
from feature_cases.common import FEATURES, TOLERANCES

THEMES = (
    data,
    training,
    precision,
    models,
    own_steps,
    layer_state,
    updates,
    callbacks,
    inference,
)  # each lists its features


def run(name, strategy=None, directory=None):
    """Runs a feature, all of it inside the scope, as notebooks do.

    Returns:
        Dict of numbers and arrays.
    """
    keras.utils.set_random_seed(3)
    function = FEATURES[name]
    with contextlib.ExitStack() as stack:
        if directory is None:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
        if strategy is not None:
            stack.enter_context(strategy.scope())
        needs_directory = function.__code__.co_argcount > 0
        return function(pathlib.Path(directory)) if needs_directory else function()


def is_refusal(text):
    """Whether what a feature raised says that parameter servers cannot do it, and why."""
    return text.startswith(("ValueError: ", "TypeError: ")) and "ParameterServerStrategy" in text


def sources_of(name):
    """The modules that a feature's numbers depend on."""
    return [common, sys.modules[FEATURES[name].__module__]]


def assert_same(name, expected, found):
    """Raises `AssertionError` unless a feature's numbers are those of one process.

    Args:
        name: the feature.
        expected: what `run` returned in one process.
        found: what it returned on a worker, or what it raised, as text.
    """
    assert not isinstance(expected, str), expected
    assert not isinstance(found, str), found
    # What parameter servers log besides.
    found = {key: value for key, value in found.items() if not str(key).startswith("staleness_")}
    assert found.keys() == expected.keys()
    tolerance = TOLERANCES[name]
    for key, value in expected.items():
        np.testing.assert_allclose(
            found[key], value, rtol=tolerance, atol=tolerance, err_msg=f"{name}: {key}"
        )
