"""Synchronous and asynchronous training, with workers alike and with a slow one.

    python benchmarks/async.py [--rounds 3]

Two workers, MNIST, a batch of 64 a worker. For the throughput each batch of input takes
50 ms (a sleep, so that two cores are enough), on the slow worker five times as long; all
sides run in turn, `--rounds` times, and a figure is the median. For the accuracy there
is no sleep, and all sides see the same number of examples. Prints Markdown tables and
appends one JSON line a run to `results/async.jsonl`.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results" / "async.jsonl"
DEADLINE_S = 300
SYNC, ASYNC = "synchronous", "asynchronous"
BOUNDS = (None, 8, 2)


def name_of(asynchronous, bound=None):
    bounded = "" if bound is None else f", staleness at most {bound}"
    return (ASYNC if asynchronous else SYNC) + bounded


SIDES = {name_of(False): (False, None), **{name_of(True, b): (True, b) for b in BOUNDS}}


def run(side):
    """Runs a side once; returns what it found."""
    processes = ["-n", "2", *(["--ps", "1"] if side["asynchronous"] else [])]
    script = [str(HERE / "async_side.py"), json.dumps(side)]
    command = [sys.executable, "-m", "tfdist.cli", "run", *processes, *script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    lines = [line for line in done.stdout.splitlines() if "RESULT " in line]
    if not lines:
        raise RuntimeError(f"{' '.join(command)} printed no result:\n{done.stderr[-3000:]}")
    found = json.loads(lines[0].split("RESULT ", 1)[1])
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as file:
        row = {"time": time.strftime("%Y-%m-%d %H:%M"), "settings": side, **found}
        file.write(json.dumps(row) + "\n")
    return found


def throughput(rounds):
    """Prints examples a second with the workers alike and with one slow."""
    rows = {}
    for number in range(rounds):
        for slow in (False, True):
            for name, (asynchronous, bound) in SIDES.items():
                side = {
                    "asynchronous": asynchronous,
                    "max_staleness": bound,
                    "slow": slow,
                    "base_ms": 50,
                    "slow_factor": 5,
                    "examples": 64 * 200,
                }
                rows.setdefault((slow, name), []).append(run(side))
                rate = rows[slow, name][-1]["examples_per_second"]
                print(f"round {number + 1}: slow {slow}: {name}: {rate:.0f}/s", file=sys.stderr)

    def rate(slow, name):
        return [row["examples_per_second"] for row in rows[slow, name]]

    columns = ["examples a second", "workers alike", "one slow", "one slow, to synchronous"]
    print(f"\n| {' | '.join(columns)} | largest staleness |")
    print("|---|---|---|---|---|")
    for name in SIDES:
        ratios = [a / b for a, b in zip(rate(True, name), rate(True, SYNC), strict=True)]
        worst = [row["staleness_max"] for slow in (False, True) for row in rows[slow, name]]
        worst = "-" if worst[0] is None else f"{max(worst):.0f}"
        cells = [statistics.median(rate(slow, name)) for slow in (False, True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {cells[0]:.0f} | {cells[1]:.0f} | {ratio} | {worst} |")


def accuracy(rounds):
    """Prints the accuracy on the test images behind the same number of examples."""
    rows = {}
    for seed in range(rounds):
        for name in (SYNC, ASYNC):
            side = {
                "asynchronous": name == ASYNC,
                "max_staleness": None,
                "slow": False,
                "base_ms": 0,
                "slow_factor": 1,
                "examples": 59_904,
                "epochs": 3,
                "seed": seed,
            }
            rows.setdefault(name, []).append(run(side))
            print(f"seed {seed}: {name}: {rows[name][-1]['accuracy']:.2%}", file=sys.stderr)
    print("\n| 3 epochs of MNIST | test accuracy, mean | spread | updates | staleness, mean |")
    print("|---|---|---|---|---|")
    for name, found in rows.items():
        values = [100 * row["accuracy"] for row in found]
        stale = found[0]["staleness_mean"]
        stale = "-" if stale is None else f"{stale:.2f}"
        spread = f"{min(values):.2f} to {max(values):.2f}"
        cells = [f"{statistics.mean(values):.2f} %", spread, found[0]["iterations"], stale]
        print(f"| {name} | {' | '.join(map(str, cells))} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    throughput(rounds)
    accuracy(rounds)


if __name__ == "__main__":
    main()
