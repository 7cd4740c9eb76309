"""Processes that do one case after the other, and what came out of each.

A program for them is started as `PROGRAM STRATEGY LOGICAL_DEVICES OUT [CASE ...]`, alone or on
workers, and lets `work` do the cases. A case that ends its gang, or of which nothing is heard,
fails alone: a new gang goes on behind it.
"""

import contextlib
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile
import time
import traceback

import slowness

TESTS = pathlib.Path(__file__).resolve().parent
# Until a case has ended; for the first one, TensorFlow starts.
DEADLINE_S = 180.0


def work(strategy_name, out, cases, function):
    """Notes in OUT.INDEX what `function(case)` returns, or what it raises, as text.

    It is noted as soon as it is known, so that whoever started this sees which one never ends.
    """
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    with open(f"{out}.{config.get('task', {}).get('index', 0)}", "ab") as file:
        for case in cases:
            broken = False
            try:
                result = function(case)
            except Exception as error:
                if not strategy_name.startswith("stock"):
                    traceback.print_exc()
                result = f"{type(error).__name__}: {error}"
                # The others may wait in a collective, or TensorFlow may have aborted it.
                broken = strategy_name == "multi" or _is_tensorflows(error)
            pickle.dump((case, result), file)
            file.flush()
            if broken and (strategy_name.endswith("multi") or strategy_name == "servers"):
                sys.exit(1)


def _is_tensorflows(error):
    return any(kind.__module__.startswith("tensorflow.") for kind in type(error).__mro__)


def read(path):
    """Returns `{case: result}` of what one worker has noted so far."""
    results = {}
    if not pathlib.Path(path).exists():
        return results
    with open(path, "rb") as file:
        while True:
            try:
                case, result = pickle.load(file)
            except (EOFError, pickle.UnpicklingError):
                return results
            results[case] = result


def run(program, strategy, workers, logical_devices, directory, cases, deadline_s=DEADLINE_S):
    """Starts gangs until each case was tried.

    Args:
        program: path of the program.
        strategy: name of a strategy, for the program. Of "servers" the coordinator alone
            has results; there is one parameter server.
        workers: how many processes; 1 is started without `tfdist run`.
        logical_devices: how many devices each of them has.
        directory: where files are written.
        cases: list of strings.
        deadline_s: seconds until a case must have ended, on a machine that is not slow.

    Returns:
        A dict `{case: result}` of each worker; a case that failed is a string there.
    """
    run_by = 1 if strategy == "servers" else workers
    results, left, number = [{} for _ in range(run_by)], list(cases), 0
    while left:
        out = pathlib.Path(directory) / f"out-{number}"
        number += 1
        command = [sys.executable, program, strategy, logical_devices, out, *left]
        command[1:1] = started_by(strategy, workers)
        files = [f"{out}.{i}" for i in range(run_by)]
        said = _run(command, files, slowness.seconds(deadline_s))
        news = [read(file) for file in files]
        for mine, new in zip(results, news):
            mine.update(new)
        first, left = left[0], [c for c in left if any(c not in mine for mine in results)]
        # Where a worker has said what went wrong, the others may be a case before or behind.
        # Where none has, the case is known when a gang that began with it has not ended it.
        told = {case for new in news for case, result in new.items() if isinstance(result, str)}
        for case in [case for case in left if case in told or (not told and case == first)]:
            for mine in results:
                mine.setdefault(case, f"the processes ended in this case:\n{said[-5000:]}")
            left.remove(case)
    return results


def started_by(strategy, workers):
    """What stands between Python and a program that runs on `workers` processes."""
    if strategy == "servers":
        return ["-m", "tfdist.cli", "run", "-n", workers, "--ps", 1]
    return ["-m", "tfdist.cli", "run", "-n", workers] if workers > 1 else []


def _run(command, files, deadline_s):
    """Runs a gang until it ends, or nothing is heard of it; returns what it printed."""
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, "TFDIST_TIMEOUT": f"{deadline_s / 2:.0f}"},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            heard, seen = time.monotonic(), None
            while process.poll() is None and time.monotonic() - heard < deadline_s:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                now = [_size(file) for file in files]
                if now != seen:
                    heard, seen = time.monotonic(), now
        finally:
            process.kill()
            process.wait()
        printed.seek(0)
        return printed.read()


def _size(path):
    return os.path.getsize(path) if os.path.exists(path) else 0
