"""What one process gives is computed once, as long as nothing that it depends on changes."""

import types

import pytest
import stored
import tiers


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "DIRECTORY", tmp_path / "kept")
    monkeypatch.setenv(tiers.VARIABLE, "quick")


@pytest.fixture
def results(tmp_path):
    """Asks for results; returns them, and the list of the cases that were computed."""
    module = types.ModuleType("cases")
    module.__file__ = str(tmp_path / "cases.py")
    computed = []

    def compute(cases):
        computed.extend(cases)
        return {case: "an error" if case == "fails" else [case] for case in cases}

    def ask(*cases, source="1"):
        (tmp_path / "cases.py").write_text(source)
        computed.clear()
        return stored.results(compute, list(cases), lambda case: [module]), list(computed)

    return ask


def test_a_result_is_computed_once(results):
    assert results("a", "b") == ({"a": ["a"], "b": ["b"]}, ["a", "b"])
    assert results("a", "b") == ({"a": ["a"], "b": ["b"]}, [])
    assert results("b", "c") == ({"b": ["b"], "c": ["c"]}, ["c"])


def test_a_failure_is_not_kept(results):
    assert results("fails") == ({"fails": "an error"}, ["fails"])
    assert results("fails") == ({"fails": "an error"}, ["fails"])


def test_another_source_another_result(results):
    assert results("a")[1] == ["a"]
    assert results("a", source="2")[1] == ["a"]
    assert results("a")[1] == []


def test_a_broken_file_is_computed_again(results):
    results("a")
    (kept,) = [path for path in stored.DIRECTORY.iterdir() if path.suffix == ""]
    kept.write_bytes(kept.read_bytes()[:-1])
    assert results("a") == ({"a": ["a"]}, ["a"])


def test_all_tests_compute_anew_once_a_run(results, monkeypatch):
    results("a")
    monkeypatch.setenv(tiers.VARIABLE, "all")
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "first run")
    assert results("a")[1] == ["a"]
    assert results("a")[1] == []  # another process of the same run
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "second run")
    assert results("a")[1] == ["a"]
