"""Every notebook runs from top to bottom."""

import pathlib

import nbclient
import nbformat
import pytest
import slowness

NOTEBOOKS = sorted((pathlib.Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=round(slowness.seconds(240)), resources={"metadata": {"path": path.parent}}
    ).execute()
    last = notebook.cells[-1].outputs
    assert any("image/png" in output.get("data", {}) for output in last)


def test_there_are_notebooks():
    assert NOTEBOOKS
