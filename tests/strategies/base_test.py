"""One base says all that may be asked of a strategy: nobody looks whether it has something."""

import ast
import inspect
import pathlib

import pytest
from signatures import arguments_of

import tfdist
from tfdist.strategies.base import KerasStrategy
from tfdist.strategies.mirrored_engine import MirroredEngine
from tfdist.strategies.single import NoStrategy

PACKAGE = pathlib.Path(tfdist.__file__).parent
STRATEGIES = {
    "mirrored": tfdist.MirroredStrategy,
    "multi-worker": tfdist.MultiWorkerMirroredStrategy,
    "parameter servers": tfdist.ParameterServerStrategy,
    "none": NoStrategy,
}
METHODS = [name for name, value in vars(KerasStrategy).items() if inspect.isfunction(value)]
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


@every_strategy
def test_what_a_strategy_says_otherwise_takes_the_same_arguments(strategy):
    assert issubclass(strategy, KerasStrategy)
    for name in METHODS:
        own = arguments_of(getattr(strategy, name))
        assert own == arguments_of(getattr(KerasStrategy, name)), name


def test_who_steps_together():
    assert {n for n, s in STRATEGIES.items() if issubclass(s, MirroredEngine)} == {
        "mirrored",
        "multi-worker",
    }
    assert {n for n, s in STRATEGIES.items() if s.is_asynchronous} == {"parameter servers"}
    assert {n for n, s in STRATEGIES.items() if not s.is_tfdist} == {"none"}


def probes(path):
    """Lines that ask whether something that is called a strategy has a name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id in ("getattr", "hasattr"):
            of = node.args[0]
            name = getattr(of, "id", None) or getattr(of, "attr", "")
            if name.endswith("strategy") or name == "active":
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_nobody_probes():
    found = [line for path in sorted(PACKAGE.rglob("*.py")) for line in probes(path)]
    # The one place that tells tfdist's strategies from TensorFlow's.
    assert [line.partition(":")[0] for line in found] == ["compat/strategy.py"]


@pytest.mark.parametrize("name", ["make_keras_function", "make_step"])
def test_what_a_strategy_must_say_itself(name):
    arguments = {"make_keras_function": (None, "train"), "make_step": (None, 1, 1)}[name]
    with pytest.raises(NotImplementedError, match="NoStrategy has no step"):
        getattr(NoStrategy(), name)(*arguments)
