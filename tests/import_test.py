"""Who may import whom, and what `import tfdist` costs."""

import ast
import functools
import graphlib
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
import slowness

import tfdist

PACKAGE = pathlib.Path(tfdist.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = {
    "tf_config": 0,
    "arguments": 0,
    "pages": 0,
    "compat": 1,
    "gradient_compression": 1,
    "sync": 2,
    "data": 2,
    "strategies": 3,
    "experimental": 3.5,  # hands strategies on
    "cluster_info": 3.5,  # asks the strategies, if one was made, where this worker is
    "checkpointing": 3.7,
    "callbacks": 4,
    "model_compression": 4,
    "metrics": 4,
    "evaluation": 5,
    "tuning": 6,
}
OUTSIDE = ("cluster", "cli")


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of_owner(attribute):
    """`x` of `x.attribute`; "" where what stands in front of the dot is not a name."""
    return attribute.value.id if isinstance(attribute.value, ast.Name) else ""


def imports(path):
    """Yields (dotted name, whether it is at module level) of all that a module imports."""
    tree = tree_of(path)
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) not in inner


def library():
    return [path for path in MODULES if room_of(path) in FLOORS]


def test_every_module_has_a_floor():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms <= {*FLOORS, *OUTSIDE}
    assert {"compat", "sync", "strategies", *OUTSIDE} <= rooms


@pytest.mark.parametrize("path", library(), ids=name_of)
def test_a_room_imports_only_from_below(path):
    room = room_of(path)
    for name, at_module_level in imports(path):
        parts = name.split(".")
        if parts[0] != "tfdist" or len(parts) == 1:
            continue
        other = parts[1]
        assert other not in OUTSIDE, f"{name_of(path)} imports {name}"
        assert other in FLOORS, f"{name_of(path)} imports {name}: which floor is that?"
        if other != room:
            assert FLOORS[other] < FLOORS[room], f"{name_of(path)} imports {name}, not below it"
        if room == "cluster_info" and other != "tf_config":
            assert not at_module_level, f"{name_of(path)} imports {name} at module level"


def imported_modules():
    """Of each module of tfdist the names of those that it imports, in functions too."""
    known = {dotted(path) for path in MODULES} - {"tfdist"}  # which has its names lazily
    found = {}
    for path in MODULES:
        names = [name for name, _ in imports(path)]
        modules = [name if name in known else name.rpartition(".")[0] for name in names]
        found[dotted(path)] = known.intersection(modules)
    return found


def dotted(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_imports_do_not_go_in_a_circle():
    try:
        graphlib.TopologicalSorter(imported_modules()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
    found = imported_modules()  # or the search is broken
    assert "tfdist.compat.trainer" in found["tfdist.compat.install"]
    assert "tfdist.evaluation.litert" in found["tfdist.evaluation.predictors"]


@pytest.mark.parametrize("path", library(), ids=name_of)
def test_the_lazy_public_names_are_not_a_way_around_the_floors(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Attribute) and name_of_owner(node) == "tfdist":
            assert node.attr == "__version__", f"{name_of(path)} uses tfdist.{node.attr}"


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) in OUTSIDE], ids=name_of)
def test_cluster_and_cli_import_no_tensorflow_at_module_level(path):
    for name, at_module_level in imports(path):
        if at_module_level:
            assert name.split(".")[0] not in ("tensorflow", "keras"), name


# -- private names ------------------------------------------------------------

# Names that start with an underscore and yet are public.
PUBLIC = {("os", "_exit"), ("sys", "_getframe")}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


@functools.cache
def own_names():
    """Every underscore name that tfdist itself defines, anywhere."""
    names = set()
    for path in MODULES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and name_of_owner(node) in ("self", "cls")
            ):
                names.add(node.attr)
    return frozenset(names)


def private_uses(tree, own):
    """Yields the underscore attributes that a module reads of what is not its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
            owner = name_of_owner(node)
            if owner in ("self", "cls") or (owner, name) in PUBLIC:
                continue
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("getattr", "hasattr", "setattr", "delattr")
            and len(node.args) > 1
            and isinstance(node.args[1], ast.Constant)
        ):
            name = node.args[1].value
        else:
            continue
        private = name.startswith("_") and not name.startswith("__") and name not in own
        if private or name == "__internal__":
            yield node.lineno, name


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) != "compat"], ids=name_of)
def test_only_compat_names_what_is_private(path):
    for name, _ in imports(path):
        assert not name.startswith(("keras.src", "tensorflow.python")), f"{name_of(path)}: {name}"
    assert list(private_uses(tree_of(path), own_names())) == []


def test_private_uses_are_seen():
    source = "variable._value\ngetattr(model, '_distribute_strategy')\nself._x\nos._exit(1)\n"
    found = [name for _, name in private_uses(ast.parse(source), own_names() - {"_value"})]
    assert sorted(found) == ["_distribute_strategy", "_value"]
    # compat does use some; were nothing found there, the search would be broken.
    strategy = ast.parse((PACKAGE / "compat" / "strategy.py").read_text())
    assert "_id_in_cluster" in {name for _, name in private_uses(strategy, own_names())}


# -- what an import loads -----------------------------------------------------


def loaded_after(statements, **environ):
    """Which of the heavy packages a fresh process has loaded after `statements`."""
    program = (
        f"import json, sys\n{statements}\n"
        "heavy = ('tensorflow', 'keras', 'numpy', 'ray')\n"
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
        env={"PATH": "", **environ},
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_probe_sees_what_is_loaded():
    assert loaded_after("import numpy") == ["numpy"]


def test_import_tfdist_loads_nothing_heavy():
    assert loaded_after("import tfdist; assert 'MirroredStrategy' in dir(tfdist)") == []


def test_what_tensorflow_has_is_known_without_loading_it():
    statements = "import tfdist, tfdist.experimental; names = dir(tfdist), dir(tfdist.experimental)"
    statements += "; assert 'ReduceOp' in names[0] and 'partitioners' in names[1]"
    assert loaded_after(f"{statements}; assert not hasattr(tfdist, 'Mirored')") == []


def test_rank_and_world_size_load_nothing_heavy():
    config = {
        "cluster": {"worker": ["host1:1", "host2:1"]},
        "task": {"type": "worker", "index": 1},
    }
    statements = "import tfdist; assert (tfdist.rank(), tfdist.world_size()) == (1, 2)"
    statements += "; assert not tfdist.is_chief()"
    assert loaded_after(statements, TF_CONFIG=json.dumps(config)) == []


def test_cluster_and_cli_load_no_tensorflow():
    modules = [
        "tfdist." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in MODULES
        if room_of(path) in OUTSIDE and path.stem not in ("__init__", "__main__")
    ]
    heavy = loaded_after("import " + ", ".join(modules))
    assert "tensorflow" not in heavy and "keras" not in heavy


@pytest.mark.parametrize("name", [n for n in tfdist.__all__ if not n.startswith("__")])
def test_every_public_name_has_its_module(name):
    module = tfdist._NAMES.get(name, f"tfdist.{name}")
    spec = importlib.util.find_spec(module)
    assert spec is not None and pathlib.Path(spec.origin).is_file(), f"{name}: no {module}"
    if name in tfdist._NAMES:
        tree = ast.parse(pathlib.Path(spec.origin).read_text())
        defined = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
        assert name in defined, f"{module} does not define {name}"


def test_an_unknown_name_says_so():
    with pytest.raises(AttributeError, match="module 'tfdist' has no attribute 'Mirored'"):
        _ = tfdist.Mirored
