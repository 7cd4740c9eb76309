"""Prints what the tests cost, by folder and by file, beside each folder's budget.

    python tests/durations.py REPORT [--write PAGE]

REPORT is what `pytest --junitxml=REPORT -o junit_duration_report=total` has written. Ends with
1 where a folder took longer than its budget: then a test is to be moved to the slow ones, or
made cheaper. With --write the tables replace what stands between two marker lines of a page.
"""

import argparse
import collections
import pathlib
import sys
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- durations: begin -->", "<!-- durations: end -->"
FILES = 25  # the longest ones are printed

# Seconds of all tests of a folder in `make test`, setup included, summed over the processes
# that share them. Three processes on two cores have 2,700 in 15 minutes.
BUDGETS = {
    "tests/strategies": 900,
    "tests/callbacks": 420,
    "tests/metrics": 170,
    "tests/gradient_compression": 100,
    "tests/examples": 85,
    "tests/tuning": 75,
    "tests/model_compression": 45,  # distillation
    "tests/model_compression/reporting": 30,
    "tests/pages": 5,
    "tests/evaluation": 80,
    "tests/compat": 110,
    "tests/sync": 110,
    "tests/cluster": 65,
    "tests/checkpointing": 5,
    "tests/data": 20,
    "tests/cli": 5,
    "tests/notebooks": 95,  # 60 of them for those to come
    "tests": 125,  # its own files: docstrings, README, imports
    "tfdist": 10,  # examples in docstrings
    # To come.
    "tests/model_compression/pruning": 60,
    "tests/model_compression/quantization": 60,
    "tests/model_parallelism": 60,
    "tests/cluster/scheduling": 60,
}


def read(report):
    """Returns `{file: seconds}`, the files' paths relative to the repository."""
    seconds = collections.Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        seconds[_file_of(case.get("classname"), case.get("name"))] += float(case.get("time"))
    return seconds


def _file_of(classname, name):
    parts = classname.split(".")
    # A class of tests stands behind its file.
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        if (ROOT / f"{path}.py").is_file():
            return f"{path}.py"
    return f"{classname.replace('.', '/')}.py"


def by_folder(files):
    """Returns `{folder: seconds}` of the folders that have a budget, or of none's own."""
    folders = collections.Counter({folder: 0.0 for folder in BUDGETS if (ROOT / folder).is_dir()})
    for file, seconds in files.items():
        above = [parent.as_posix() for parent in pathlib.PurePosixPath(file).parents]
        folder = next((one for one in above if one in BUDGETS), above[0])
        folders[folder] += seconds
    return folders


def tables(files):
    """The two tables, as lines of Markdown."""
    folders = by_folder(files)
    yield "| folder | seconds | budget |"
    yield "|---|---|---|"
    for folder, seconds in folders.most_common():
        budget = BUDGETS.get(folder)
        over = " **over**" if is_over(folder, seconds) else ""
        yield f"| {folder} | {seconds:.0f}{over} | {'none' if budget is None else budget} |"
    for folder, budget in BUDGETS.items():
        if folder not in folders:
            yield f"| {folder} | to come | {budget} |"
    yield f"| all | {sum(folders.values()):.0f} | {sum(BUDGETS.values())} |"
    yield ""
    yield f"The {FILES} files that take longest:"
    yield ""
    yield "| file | seconds |"
    yield "|---|---|"
    for file, seconds in files.most_common(FILES):
        yield f"| {file} | {seconds:.0f} |"


def is_over(folder, seconds):
    return seconds > BUDGETS.get(folder, 0)


def write(page, lines):
    """Replaces what stands between the marker lines of a page."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no lines {BEGIN} and {END}")
    page.write_text("\n".join([before + BEGIN, *lines, END]) + after, "utf-8")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("--write", type=pathlib.Path, metavar="PAGE")
    args = parser.parse_args(arguments)
    files = read(args.report)
    if not files:
        sys.exit(f"{args.report} holds no tests")
    lines = list(tables(files))
    print("\n".join(lines))
    if args.write:
        write(args.write, lines)
    over = [folder for folder, seconds in by_folder(files).items() if is_over(folder, seconds)]
    for folder in over:
        print(f"{folder} is over its budget of {BUDGETS.get(folder, 0)} s", file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
