"""The wheel: what it holds, and that it works where nothing else is."""

import json
import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import pytest
import slowness

import tfdist

ROOT = pathlib.Path(__file__).resolve().parents[1]
SCRIPT = """
import keras, numpy, tfdist
with tfdist.auto_strategy().scope():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
model.fit(numpy.ones((4, 2)), numpy.ones((4, 1)), verbose=0)
print(tfdist.__file__, tfdist.rank(), "of", tfdist.world_size())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of what stands in the tree, built where no build of before lies about."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = ("tfdist/", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
    for name in listed.stdout.split("\n"):
        if name.startswith(wanted) and (ROOT / name).is_file():
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, folder / "source"]
    subprocess.run(command, check=True, capture_output=True, timeout=slowness.seconds(120))
    (found,) = folder.glob("*.whl")
    return found


def test_what_it_holds(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        metadata = file.read(f"tfdist-{tfdist.__version__}.dist-info/METADATA").decode()
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "tfdist").rglob("*.py")}
    assert modules <= set(names)
    assert "tfdist/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs"))]
    assert any(name.endswith("LICENSE") for name in names)
    assert "Requires-Dist: tensorflow<2.22,>=2.21" in metadata
    assert "License" in metadata and "Apache-2.0" in metadata


def test_it_works_without_the_tree(wheel, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run(
        [*install, "--target", tmp_path / "site", wheel],
        check=True,
        timeout=slowness.seconds(60),
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import tfdist; print(tfdist.__file__)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=slowness.seconds(60),
    )
    assert done.stdout.strip() == str(tmp_path / "site" / "tfdist" / "__init__.py")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_trains_on_two_workers_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run(
        [programs / "pip", "install", "--quiet", wheel],
        check=True,
        timeout=slowness.seconds(600),
    )
    (tmp_path / "train.py").write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for command, expected in (
        ([programs / "tfdist", "--version"], [f"tfdist {tfdist.__version__}"]),
        ([programs / "python", "train.py"], ["0 of 1"]),
        ([programs / "tfdist", "run", "-n", "2", "train.py"], ["0 of 2", "1 of 2"]),
    ):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            timeout=slowness.seconds(180),
        )
        assert done.returncode == 0, done.stderr
        said = sorted(done.stdout.strip().splitlines())
        assert [line.endswith(end) for line, end in zip(said, expected)] == [True] * len(expected)
        assert all(str(tmp_path) in line for line in said) or "--version" in command
    listed = subprocess.run(
        [programs / "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    )
    assert "pytest" not in {one["name"] for one in json.loads(listed.stdout)}
