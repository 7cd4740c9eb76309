"""The pages of `docs/benchmarks` are what their scripts make of the rows that were measured."""

import os
import pathlib
import subprocess
import sys

import slowness

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_pages_are_those_of_the_measured_rows(tmp_path):
    subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "pages.py", tmp_path],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        timeout=slowness.seconds(60),
    )
    made = {page.name: page.read_text("utf-8") for page in tmp_path.iterdir()}
    assert len(made) == 13  # and the one that lists them
    for name, text in made.items():
        kept = (ROOT / "docs" / "benchmarks" / name).read_text("utf-8")
        assert kept == text, f"{name} is out of date: run python benchmarks/pages.py"
