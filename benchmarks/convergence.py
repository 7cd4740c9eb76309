"""Where training ends: synchronous, DiLoCo, local SGD and PowerSGD, equal tokens.

    python benchmarks/convergence.py [--seeds 0 1 2] [--steps 1500] [--sides NAME ...]

A character language model (`char_lm/convergence_side.py`) on Shakespeare, Adam with
warm-up and cosine decay. As in the paper of DiLoCo all sides go on from one model, which
was trained synchronously for `--pretrained` steps (0: from scratch). The learning rate
is tuned for the synchronous baseline first, on the first seed; all sides use it. Each
side sees the same tokens in the same order, so a seed's losses are compared with the
same seed's baseline.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
BASELINE = "synchronous"
RATES = (1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
SIDES = (
    BASELINE,
    "LocalSGD, period 10",
    "LocalSGD, period 50",
    "DiLoCo, period 10",
    "DiLoCo, period 50",
    "DiLoCo, period 50, outer momentum 0.7",
    "DiLoCo, period 100",
    "PowerSGD, rank 1",
    "PowerSGD, rank 2",
    "PowerSGD, rank 4",
    "PowerSGD, rank 4, warm-up 300",
)
DEADLINE_S = 3600


def train(jobs, workers):
    """Trains all jobs in one start of the workers; returns their results, and keeps them."""
    script = HERE / "char_lm" / "convergence_side.py"
    command = [sys.executable, "-m", "tfdist.cli", "run", "-n", workers, script, json.dumps(jobs)]
    found = []
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in process.stdout:
            if "RESULT " not in line:
                continue
            found.append(json.loads(line.split("RESULT ", 1)[1]))
            print(describe(found[-1]), file=sys.stderr)
            pages.append("convergence", found[-1])
        process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    if len(found) != len(jobs):
        raise RuntimeError(f"{len(found)} of {len(jobs)} trainings printed a result.")
    return found


def describe(row):
    return f"{row['side']}, seed {row['seed']}, rate {row['rate']}: {row['loss']:.4f}"


def setting_of(row):
    return row["workers"], row["pretrained"], row["steps"]


def shown(rows):
    return rows


def tables(rows):
    settings = dict.fromkeys(map(setting_of, rows))
    return "\n\n".join(table_of(rows, setting) for setting in settings)


def table_of(rows, setting):
    """The losses by side: mean, spread, and the ratio to the same seed's baseline."""
    rows = [row for row in rows if setting_of(row) == setting]
    rate = rows[-1]["rate"]
    last = {(r["side"], r["seed"]): r for r in rows if r["rate"] == rate}
    seeds = sorted({seed for _, seed in last})
    # Means over the same seeds for all sides: of a run that was cut short, those that are whole.
    whole = [seed for seed in seeds if all((side, seed) in last for side in SIDES)]
    seeds = whole or seeds
    workers, pretrained, steps = setting
    where = f"after {pretrained} synchronous ones" if pretrained else "from scratch"
    lines = []
    for side in SIDES:
        mine = [last[side, seed] for seed in seeds if (side, seed) in last]
        if not mine:
            continue
        losses = [row["loss"] for row in mine]
        ratios = [r["loss"] / last[BASELINE, r["seed"]]["loss"] - 1 for r in mine]
        mean, to_baseline = statistics.mean(losses), f"{100 * statistics.mean(ratios):+.2f} %"
        cells = [f"{mean:.4f}", pages.spread(losses, ".4f"), to_baseline]
        lines.append([side, *cells, f"{mine[-1]['bytes']:.0f}"])
    titles = ["side", "validation loss, mean", "spread", "to synchronous", "bytes a step"]
    shown_for = f"{workers} workers, {steps} steps {where}, learning rate {rate}, seeds {seeds}:"
    return f"{shown_for}\n\n{pages.table(titles, lines)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pretrained", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES, metavar="NAME")
    args = parser.parse_args()
    common = {"steps": args.steps, "pretrained": args.pretrained}
    first = {"side": BASELINE, "seed": args.seeds[0], **common}
    tried = train([{**first, "rate": rate} for rate in RATES], args.workers)
    rate = min(tried, key=lambda row: row["loss"])["rate"]
    jobs = [
        {"side": side, "seed": seed, "rate": rate, **common}
        for seed in args.seeds
        for side in SIDES
        if side in (*args.sides, BASELINE) and (side, seed) != (BASELINE, args.seeds[0])
    ]
    train(jobs, args.workers)
    pages.publish("convergence")


if __name__ == "__main__":
    main()
