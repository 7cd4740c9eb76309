"""All that a user types has type hints, and type checkers see the names that are lazy.

What is private is not asked for: `mypy` checks the functions that have annotations.
"""

import ast
import configparser
import functools
import importlib
import inspect
import operator
import pathlib
import typing

import pytest
import tensorflow as tf

import tfdist

PACKAGE = pathlib.Path(tfdist.__file__).parent
# Their public names are in `__all__`.
ROOMS = (
    "tfdist",
    *("tfdist.callbacks", "tfdist.gradient_compression", "tfdist.metrics", "tfdist.evaluation"),
    *("tfdist.tuning", "tfdist.cluster", "tfdist.experimental"),
)
LAZY = tuple(room for room in ROOMS if room not in ("tfdist.metrics", "tfdist.cluster"))
# Theirs are what they define: what a room without `__all__` has, and what those need who write
# an algorithm or a compressor.
MODULES = (
    *("tfdist.cli", "tfdist.cli.run", "tfdist.cluster_info", "tfdist.tf_config"),
    *("tfdist.data.fingerprint", "tfdist.data.reading", "tfdist.data.split"),
    *("tfdist.gradient_compression.compressor", "tfdist.sync.algorithm", "tfdist.sync.protocol"),
    *("tfdist.sync.sync_sgd", "tfdist.sync.local_sgd", "tfdist.sync.diloco"),
    *("tfdist.strategies.base", "tfdist.strategies.place", "tfdist.strategies.single"),
)
# Public names of modules of which the others are for tfdist alone.
SINGLE = (
    *("tfdist.sync.communicator.ReplicaCommunicator", "tfdist.sync.merging.merge_by"),
    *("tfdist.sync.partial_sync.PartialSync", "tfdist.evaluation.predictions.Predictions"),
)


def is_ours(thing):
    return (getattr(thing, "__module__", None) or "").split(".")[0] == "tfdist"


def public():
    """Dict of all public functions and classes of tfdist, by their dotted names."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(room)
        found |= {f"{room}.{name}": getattr(module, name) for name in module.__all__}
    for name in MODULES:
        defined = vars(importlib.import_module(name)).items()
        found |= {
            f"{name}.{key}": value
            for key, value in defined
            if not key.startswith("_") and getattr(value, "__module__", None) == name
        }
    for name in SINGLE:
        module, _, key = name.rpartition(".")
        found[name] = getattr(importlib.import_module(module), key)
    return {
        name: value
        for name, value in found.items()
        if is_ours(value) and (inspect.isclass(value) or inspect.isroutine(value))
    }


def functions_of(thing):
    """Yields the functions behind a public name: its own, or of a class all that tfdist wrote."""
    if not inspect.isclass(thing):
        yield thing
        return
    for owner in filter(is_ours, thing.__mro__):
        for name, value in vars(owner).items():
            if name.startswith("_") and not name.startswith("__"):
                continue
            if isinstance(value, (classmethod, staticmethod)):
                value = value.__func__
            elif isinstance(value, property):
                value = value.fget
            elif isinstance(value, functools.cached_property):
                value = value.func
            # Of dataclasses and named tuples Python has written some.
            if inspect.isfunction(value) and written_by_us(value):
                yield value


def written_by_us(function):
    return PACKAGE in pathlib.Path(inspect.unwrap(function).__code__.co_filename).parents


def missing(function):
    """What of a function has no annotation; its return is "return"."""
    signature = inspect.signature(function)
    names = [
        name
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls") and parameter.annotation is parameter.empty
    ]
    return names + ["return"] * (signature.return_annotation is signature.empty)


def test_all_public_names_are_found():
    names = public()
    assert {"tfdist.run", "tfdist.callbacks.SyncSGD", "tfdist.cli.main"} <= set(names)
    assert not [name for name in names if name.startswith("tfdist.experimental.Coll")]  # not ours
    of = {function.__qualname__ for function in functions_of(tfdist.metrics.F1Score)}
    assert {"F1Score.of", "AveragedMetric.__init__", "SummedMetric.update_state"} <= of
    of = {function.__qualname__ for function in functions_of(tfdist.evaluation.Comparison)}
    assert "Comparison.title" in of and "Comparison.__init__" not in of


def test_what_is_missing_is_seen():
    def some(a: int, b, *, c: int):
        pass

    assert missing(some) == ["b", "return"]


@pytest.mark.parametrize("name", public())
def test_it_has_type_hints(name):
    bare = {
        f"{function.__module__}.{function.__qualname__}": missing(function)
        for function in functions_of(public()[name])
        if missing(function)
    }
    assert not bare, f"without type hints: {bare}"


# -- lazy names ----------------------------------------------------------------


def names_for_type_checkers(module):
    """Dict of the names that a module has under `if TYPE_CHECKING:`, and of what they are."""
    tree = ast.parse(pathlib.Path(module.__file__).read_text("utf-8"))
    (block,) = [
        node.body
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found = {}
    for node in block:
        if isinstance(node, ast.Assign):
            of_tensorflow = ast.unparse(node.value).replace("_distribute.", "tf.distribute.")
            found[ast.unparse(node.targets[0])] = operator.attrgetter(of_tensorflow[3:])(tf)
        elif node.module == "tfdist":
            names = [alias.name for alias in node.names]
            found |= {name: importlib.import_module(f"tfdist.{name}") for name in names}
        elif node.module != "tensorflow":
            origin = importlib.import_module(node.module)
            found |= {alias.asname: getattr(origin, alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("room", LAZY)
def test_type_checkers_see_the_names_that_are_lazy(room):
    module = importlib.import_module(room)
    names = [name for name in dir(module) if not name.startswith("__")]
    assert names_for_type_checkers(module) == {name: getattr(module, name) for name in names}


def test_an_algorithm_is_handed_what_the_protocol_says():
    from tfdist.sync.communicator import ReplicaCommunicator
    from tfdist.sync.protocol import Communicator

    for name in ("all_reduce", "all_gather", "all_to_all", "group_sum"):
        expected, received = (
            inspect.signature(getattr(owner, name)) for owner in (Communicator, ReplicaCommunicator)
        )
        assert received == expected, name
    assert typing.get_type_hints(Communicator)["num_replicas"] is int


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").read_bytes() == b""
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    assert config["options.package_data"]["tfdist"] == "py.typed"
