"""Which tests stay together when processes share them."""

import pathlib

import dealing
import pytest

FILES = {path.stem for path in pathlib.Path(__file__).parent.rglob("*_test.py")}


@pytest.mark.parametrize(
    ("test", "together"),
    [
        ("tests/sync/step_test.py::test_a[x-y]", "tests/sync/step_test.py"),
        ("tests/sync/step_test.py::TestAll::test_b", "tests/sync/step_test.py"),
        ("tfdist/metrics/roc_auc.py::tfdist.metrics.ROCAUC", "tfdist/metrics/roc_auc.py"),
        (
            "tests/strategies/features_test.py::test_f[2 workers-tf data]",
            "tests/strategies/features_test.py::2 workers",
        ),
        (
            "tests/docstrings_test.py::test_it_runs[a.py]",
            "tests/docstrings_test.py::test_it_runs[a.py]",
        ),
    ],
)
def test_a_file_a_part_or_a_test(test, together):
    assert dealing.together(test) == together


def test_the_named_files_exist():
    assert {*dealing.BY_PART, *dealing.BY_TEST, *dealing.LONGEST} <= FILES
