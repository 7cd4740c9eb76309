"""Which features of Keras' `fit` work on which replicas, under tfdist and stock.

    python benchmarks/matrix.py [--columns COLUMN ...] [--features FEATURE ...]

Each feature of `tests/feature_cases` is tried in one process without a strategy, and
then on replicas, under tfdist and under stock `tf.distribute`. A cell says "right"
(the numbers of one process, on every worker), "wrong numbers", "refused" (by an error of
tfdist's that says why), the error's name, or "hang": no end within a minute. Under parameter
servers steps run one after the other. What hangs or crashes is ended, and the next feature
starts in a new process. The table holds each cell's last result.

Stock's numbers on several replicas depend on timing: 18 cells of "stock Mirrored x2" were right
in three runs on a quiet machine, 45 in one on a busy machine, and `PyDataset` alone gave three
different losses in six runs of one program.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
WORKER = ROOT / "tests" / "feature_worker.py"
HANG_SECONDS = 60.0
# column title: (strategy, workers, logical CPUs of each)
COLUMNS = {
    "1 device": ("mirrored", 1, 1),
    "Mirrored x2": ("mirrored", 1, 2),
    "2 workers": ("multi", 2, 1),
    "2 workers x2": ("multi", 2, 2),
    "parameter servers": ("servers", 2, 1),
    "stock 1 device": ("stock_mirrored", 1, 1),
    "stock Mirrored x2": ("stock_mirrored", 1, 2),
    "stock 2 workers": ("stock_multi", 2, 1),
    "stock 2 workers x2": ("stock_multi", 2, 2),
}


def try_features(names, strategy, workers, logical_cpus, directory):
    """Returns each worker's `{feature: numbers, or an error as text}`."""
    import gangs

    out = pathlib.Path(directory) / f"{strategy}-{workers}x{logical_cpus}"
    run_by = 1 if strategy == "servers" else workers

    def read():
        return [gangs.read(f"{out}.{i}") for i in range(run_by)]

    results = [{} for _ in range(run_by)]
    while left := [name for name in names if any(name not in known for known in results)]:
        why = _run_until_stuck(left, strategy, workers, logical_cpus, out, read)
        for known, found in zip(results, read()):
            known.update(found)
        if why is None:
            continue  # it ended by itself: if early, what is left starts anew
        for name in left:
            if any(name not in known for known in results):
                for known in results:
                    known[name] = why
                break
    return results


def _run_until_stuck(names, strategy, workers, logical_cpus, out, read):
    """Starts workers; returns "hang" or "crash" if one was ended by that, else None."""
    import gangs

    program = [WORKER, strategy, logical_cpus, out, *names]
    command = [sys.executable, *gangs.started_by(strategy, workers), *program]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFDIST_TIMEOUT": "45"}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    process = subprocess.Popen(
        [str(part) for part in command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    before = known = sum(map(len, read()))
    news = time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(0.5)
            now = sum(map(len, read()))
            if now > known:
                known, news = now, time.monotonic()
            elif time.monotonic() - news > HANG_SECONDS:
                return "hang"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM if process.poll() is None else signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return "crash" if sum(map(len, read())) == before else None


def cell(name, expected, found_by_workers):
    """What the table says of a feature's results on all workers."""
    import feature_cases

    for found in found_by_workers:
        if isinstance(found, str) and feature_cases.is_refusal(found):
            return "refused"
        if isinstance(found, str):
            return found if found in ("hang", "crash") else f"error ({found.split(':')[0]})"
    try:
        for found in found_by_workers:
            feature_cases.assert_same(name, expected, found)
    except AssertionError:
        return "wrong numbers"
    return "right"


def shown(rows):
    """A row a feature, of the last results of its cells."""
    features = {}
    for row in rows:
        known = features.setdefault(row["feature"], {})
        known.update({**row, "cells": {**known.get("cells", {}), **cells_of(row)}})
    return list(features.values())


def cells_of(row):
    return {title: row[title] for title in COLUMNS if title in row}


def tables(rows):
    lines = [[row["feature"], *(row["cells"].get(title) for title in COLUMNS)] for row in rows]
    right = [sum(row["cells"].get(title) == "right" for row in rows) for title in COLUMNS]
    lines.append([f"**right, of {len(rows)}**", *right])
    return pages.table(["feature", *COLUMNS], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--features", nargs="+")
    args = parser.parse_args()
    import feature_cases

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that workers are ended, too
    names = args.features or list(feature_cases.FEATURES)
    with tempfile.TemporaryDirectory() as directory:
        print("trying: one process", file=sys.stderr)
        (one_process,) = try_features(names, "none", 1, 1, directory)
        for name in names:
            if isinstance(one_process[name], str):  # nothing to compare with
                sys.exit(f"plain Keras in one process, {name}: {one_process[name]}")
        for title in args.columns:
            began = time.monotonic()
            print(f"trying: {title}", file=sys.stderr, end="", flush=True)
            workers = try_features(names, *COLUMNS[title], directory)
            for name in names:
                found = cell(name, one_process[name], [worker[name] for worker in workers])
                pages.append("matrix", {"feature": name, title: found})
            print(f", {time.monotonic() - began:.0f} s", file=sys.stderr)
    pages.publish("matrix")


if __name__ == "__main__":
    main()
