"""What metrics cost: a step of training, their state, and the area of ten million scores.

    python benchmarks/metrics.py [--rounds 5] [--scores 10000000]

**A step.** The transformer of `step_time.py` (2.9 M parameters, eight sequences of 64 tokens,
one core) with a second head, one logit a token: once without metrics, once with Keras' own,
and with tfdist's, all in one process and in turn, in seconds of the CPU. A ratio is the
median of each round's own.
**Ten million scores** that crowd near 0 and 1: the area under the ROC curve by scikit-learn,
by `tfdist.metrics.ROCAUC` in batches of 100,000, and by `keras.metrics.AUC` in the same, each
in a process of its own.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
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
    row = {"side": arguments, **json.loads(found)}
    pages.append("metrics", row)
    return row


def shown(rows):
    """The last row of each side."""
    return list({tuple(row["side"][:2]): row for row in rows}.values())


def tables(rows):
    """What a step costs, and the areas."""
    found = [row for row in rows if row["side"][0] == "steps"][-1]
    none = found["step_ms"]["none"]
    lines = []
    for name, steps in found["step_ms"].items():
        ratios = [100 * (step / plain - 1) for step, plain in zip(steps, none)]
        cells = [f"{statistics.median(steps):.1f}", f"{statistics.median(ratios):+.1f} %"]
        lines.append([name, *cells, f"{pages.spread(ratios, '+.1f')} %", found["bytes"][name]])
    titles = ["metrics", "a step, ms of CPU", "to a step without, median", "spread"]
    steps = pages.table([*titles, "state, bytes"], lines)
    areas = {row["side"][1]: row for row in rows if row["side"][0] == "area"}
    lines = []
    for name, row in areas.items():
        error = abs(row["area"] - areas[AREAS[0]]["area"])
        bound = None if row["bound"] is None else f"{row['bound']:.1e}"
        cells = [f"{row['area']:.8f}", f"{error:.1e}", bound]
        lines.append([name, *cells, f"{row['seconds']:.2f}", f"{row['megabytes']:.0f}"])
    title = f"ROC AUC of {areas[AREAS[0]]['scores']} scores"
    return f"{steps}\n\n{pages.table([title, 'area', 'error', 'bound', 's', 'MB'], lines)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scores", type=int, default=10**7)
    args = parser.parse_args()
    run("steps", args.rounds)
    for name in AREAS:
        run("area", name, args.scores)
    pages.publish("metrics")


if __name__ == "__main__":
    main()
