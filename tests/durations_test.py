"""The table of what tests cost, of a report that is written here."""

import durations
import pytest

REPORT = """<testsuites><testsuite>
<testcase classname="tests.strategies.base_test" name="test_a" time="{}"/>
<testcase classname="tests.strategies.base_test" name="test_b[x.y]" time="0.5"/>
<testcase classname="tests.cluster.gang_test" name="test_c" time="2"/>
<testcase classname="tests.import_test" name="test_d" time="4"/>
<testcase classname="tfdist.metrics.roc_auc" name="tfdist.metrics.roc_auc.ROCAUC" time="1"/>
</testsuite></testsuites>"""


@pytest.fixture
def report(tmp_path):
    def write(seconds):
        path = tmp_path / "report.xml"
        path.write_text(REPORT.format(seconds))
        return path

    return write


def test_seconds_are_summed_by_file_and_by_folder(report):
    files = durations.read(report(1.5))
    assert files == {
        "tests/strategies/base_test.py": 2.0,
        "tests/cluster/gang_test.py": 2.0,
        "tests/import_test.py": 4.0,
        "tfdist/metrics/roc_auc.py": 1.0,
    }
    folders = {name: seconds for name, seconds in durations.by_folder(files).items() if seconds}
    assert folders == {"tests/strategies": 2, "tests/cluster": 2, "tests": 4, "tfdist": 1}


def test_a_folder_over_its_budget_is_named_and_fails(report, capsys):
    assert durations.main([str(report(1.0))]) == 0
    seconds = durations.BUDGETS["tests/strategies"]
    assert durations.main([str(report(seconds))]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"tests/strategies is over its budget of {seconds} s\n"
    assert f"| tests/strategies | {seconds} **over** | {seconds} |" in printed.out


def test_the_table_is_written_between_the_markers(report, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{durations.BEGIN}\nold\n{durations.END}\nbehind\n")
    for _ in range(2):  # again, it replaces its own
        durations.main([str(report(1.5)), "--write", str(page)])
        lines = page.read_text().splitlines()
        assert lines[:3] == ["before", durations.BEGIN, "| folder | seconds | budget |"]
        assert lines[-2:] == [durations.END, "behind"] and "old" not in lines
        assert lines.count("| tests/import_test.py | 4 |") == 1
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="has no lines"):
        durations.main([str(report(1.5)), "--write", str(page)])


def test_the_budgets_leave_fifteen_minutes_on_three_processes():
    assert sum(durations.BUDGETS.values()) <= 3 * 15 * 60
