"""A case that fails, ends its gang or never ends fails alone."""

import gangs
import pytest

PROGRAM = """
import os, sys, time

sys.path.insert(0, {tests!r})
import gangs


def run(case):
    if case == "dies":
        os._exit(3)
    if case == "hangs":
        time.sleep(600)
    if case == "raises":
        raise ValueError("it raised")
    return [case, os.getpid()]


strategy, _, out, *cases = sys.argv[1:]
gangs.work(strategy, out, cases, run)
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(tests=str(gangs.TESTS)))
    return path


def run(program, tmp_path, strategy, workers, cases, **options):
    results = gangs.run(program, strategy, workers, 1, tmp_path, cases, **options)
    assert len(results) == workers
    for found in results:
        assert sorted(found) == sorted(cases)
    return results


def test_all_cases_share_a_process(program, tmp_path):
    (found,) = run(program, tmp_path, "none", 1, ["a", "b", "c"])
    assert [name for name, _ in found.values()] == ["a", "b", "c"]
    assert len({pid for _, pid in found.values()}) == 1


def test_a_case_that_raises_fails_alone(program, tmp_path):
    (found,) = run(program, tmp_path, "none", 1, ["a", "raises", "b"])
    assert found["raises"] == "ValueError: it raised"
    assert found["a"][1] == found["b"][1]  # the process goes on


@pytest.mark.parametrize("what", ["raises", "dies"])
def test_workers_go_on_in_a_new_gang(program, tmp_path, what):
    first, second = run(program, tmp_path, "multi", 2, ["a", what, "b", "c"])
    for found in (first, second):
        assert isinstance(found[what], str)
        assert found["a"][0] == "a" and found["b"][0] == "b"
        assert found["b"][1] == found["c"][1]
    said = {"raises": "ValueError: it raised", "dies": "the processes ended in this case"}[what]
    assert any(said in found[what] for found in (first, second))


def test_a_case_that_never_ends_has_a_deadline(program, tmp_path):
    (found,) = run(program, tmp_path, "none", 1, ["hangs", "b"], deadline_s=2)
    assert "the processes ended in this case" in found["hangs"]
    assert found["b"][0] == "b"
