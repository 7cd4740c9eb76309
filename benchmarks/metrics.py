"""What metrics cost: a step of training, their state, and the area of ten million scores.

    python benchmarks/metrics.py [--rounds 5] [--scores 10000000]

**A step.** The transformer of `step_time.py` (2.9 M parameters, eight sequences of 64 tokens,
one core) with a second head, one logit a token: once without metrics, once with Keras' own,
and with tfdist's, all in one process and in turn, in seconds of the CPU. A ratio is the
median of each round's own.
**Ten million scores** that crowd near 0 and 1: the area under the ROC curve by scikit-learn,
by `tfdist.metrics.ROCAUC` in batches of 100,000, and by `keras.metrics.AUC` in the same, each
in a process of its own. Prints Markdown tables and appends one JSON line a side to
`results/metrics.jsonl`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results" / "metrics.jsonl"
AREAS = ("scikit-learn", "tfdist", "Keras")
DEADLINE_S = 600


def run(*arguments):
    """Runs `metrics_side.py` on one core; returns what it found."""
    core = min(os.sched_getaffinity(0))
    one_thread = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "metrics_side.py"), *map(str, arguments)],
        env={**os.environ, **one_thread, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE_S,
        preexec_fn=lambda: os.sched_setaffinity(0, [core]),
        check=True,
    )
    (found,) = (line.split(" ", 1)[1] for line in done.stdout.splitlines() if "RESULT" in line)
    row = {"time": time.strftime("%Y-%m-%d %H:%M"), "side": arguments, **json.loads(found)}
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def print_steps(found):
    none = found["step_ms"]["none"]
    print("| metrics | a step, ms of CPU | to a step without, median | spread | state, bytes |")
    print("|---|---|---|---|---|")
    for name, steps in found["step_ms"].items():
        ratios = [100 * (step / plain - 1) for step, plain in zip(steps, none)]
        cells = [f"{statistics.median(steps):.1f}", f"{statistics.median(ratios):+.1f} %"]
        cells += [f"{min(ratios):+.1f} to {max(ratios):+.1f} %", str(found["bytes"][name])]
        print(f"| {name} | {' | '.join(cells)} |")


def print_areas(rows):
    exact = rows[0]["area"]
    print(f"\n| ROC AUC of {rows[0]['scores']} scores | area | error | bound | s | MB |")
    print("|---|---|---|---|---|---|")
    for name, row in zip(AREAS, rows):
        bound = f"{row['bound']:.1e}" if row["bound"] is not None else "-"
        cells = [f"{row['area']:.8f}", f"{abs(row['area'] - exact):.1e}", bound]
        cells += [f"{row['seconds']:.2f}", f"{row['megabytes']:.0f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scores", type=int, default=10**7)
    args = parser.parse_args()
    print_steps(run("steps", args.rounds))
    print_areas([run("area", name, args.scores) for name in AREAS])


if __name__ == "__main__":
    main()
