"""Synchronous and asynchronous training, with workers alike and with a slow one.

    python benchmarks/async.py [--rounds 3]

Two workers, MNIST, a batch of 64 a worker. For the throughput each batch of input takes
50 ms (a sleep, so that two cores are enough), on the slow worker five times as long; all
sides run in turn, `--rounds` times, and a figure is the median. For the accuracy there
is no sleep, and all sides see the same number of examples.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
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
    pages.append("async", {"settings": side, **found})
    return found


def throughput(rounds):
    """Measures examples a second with the workers alike and with one slow."""
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
                rate = run(side)["examples_per_second"]
                print(f"round {number + 1}: slow {slow}: {name}: {rate:.0f}/s", file=sys.stderr)


def accuracy(rounds):
    """Measures the accuracy on the test images behind the same number of examples."""
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
            print(f"seed {seed}: {name}: {run(side)['accuracy']:.2%}", file=sys.stderr)


shown = pages.of_last_run


def tables(rows):
    """Examples a second, and accuracies."""
    slept = [row for row in rows if row["settings"]["base_ms"]]
    rates, worst = {}, {}
    for row in slept:
        asked = row["settings"]
        name = name_of(asked["asynchronous"], asked["max_staleness"])
        rates.setdefault((asked["slow"], name), []).append(row["examples_per_second"])
        worst.setdefault(name, []).append(row["staleness_max"])
    lines = []
    for name in SIDES:
        alike, slow = (statistics.median(rates[which, name]) for which in (False, True))
        ratios = [a / b for a, b in zip(rates[True, name], rates[True, SYNC], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({pages.spread(ratios, '.2f')})"
        largest = None if worst[name][0] is None else f"{max(worst[name]):.0f}"
        lines.append([name, f"{alike:.0f}", f"{slow:.0f}", ratio, largest])
    titles = ["examples a second", "workers alike", "one slow", "one slow, to synchronous"]
    speed = pages.table([*titles, "largest staleness"], lines)
    lines = []
    for name in (SYNC, ASYNC):
        mine = [
            row
            for row in rows
            if not row["settings"]["base_ms"] and name_of(row["settings"]["asynchronous"]) == name
        ]
        if mine:
            values = [100 * row["accuracy"] for row in mine]
            stale = mine[0]["staleness_mean"]
            stale = None if stale is None else f"{stale:.2f}"
            mean = f"{statistics.mean(values):.2f} %"
            spread = pages.spread(values, ".2f")
            lines.append([name, mean, spread, mine[0]["iterations"], stale])
    titles = ["3 epochs of MNIST", "test accuracy, mean", "spread", "updates", "staleness, mean"]
    return speed + (f"\n\n{pages.table(titles, lines)}" if lines else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    throughput(rounds)
    accuracy(rounds)
    pages.publish("async")


if __name__ == "__main__":
    main()
