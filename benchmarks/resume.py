"""How two workers resume after kill -9, at random steps, and with which bits.

    python benchmarks/resume.py [--runs 4] [--kills 5] [--seed 0]

The training of `tests/checkpoint_cases.py` (28 steps, a checkpoint every third) runs
once undisturbed, and then `--runs` times under `tfdist run --max-restarts`, killed
`--kills` times each: the chief and the other worker in turn, which share no disk. A
run is identical if all weights, the optimizer's state and History have, on both
workers, the bits of the undisturbed run. The time is that from the kill to the end
of the first new step; most of it is TensorFlow's start.
"""

import argparse
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tempfile

import numpy as np
import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORKER = ROOT / "tests" / "checkpoint_worker.py"
STEPS = 28


def run(directory, kills, timeout=600):
    """Returns each worker's result, and what was noted of the starts and the kills."""
    out = pathlib.Path(directory) / "out"
    command = [sys.executable, "-m", "tfdist.cli", "run", "-n", "2"]
    command += ["--max-restarts", str(len(kills)), WORKER, directory, out, "arrays"]
    subprocess.run(
        [str(part) for part in [*command, json.dumps(kills)]],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=timeout,
        check=True,
    )
    results = [pickle.loads(pathlib.Path(f"{out}.{rank}").read_bytes()) for rank in range(2)]
    return results, _notes(f"{out}.starts"), _notes(f"{out}.kills")


def _notes(path):
    path = pathlib.Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as directory:
        expected, _, _ = run(directory, [])
    number = 0
    for _ in range(args.runs):
        steps = np.sort(random.choice(np.arange(1, STEPS), args.kills, replace=False))
        kills = [[(number + i) % 2, int(step)] for i, step in enumerate(steps)]
        number += len(kills)
        with tempfile.TemporaryDirectory() as directory:
            results, starts, killed = run(directory, kills)
        assert [note[1] for note in killed] == [step for _, step in kills], killed
        identical = results == expected
        for (rank, step), (_, _, at), (_, first, back) in zip(kills, killed, starts[1:]):
            row = {
                "step": step,
                "worker": rank,
                "resumed_from": first - 1,
                "seconds": round(back - at, 1),
                "identical": identical,
            }
            print(f"killed after step {step}: {back - at:.1f} s", file=sys.stderr, flush=True)
            pages.append("resume", row)
    pages.publish("resume")


shown = pages.of_last_run


def tables(rows):
    """A line a kill."""
    titles = ["killed after step", "worker", "resumed from step", "seconds to a new step", "bits"]
    lines = [
        [
            row["step"],
            "0 (chief)" if row["worker"] == 0 else row["worker"],
            row["resumed_from"],
            row["seconds"],
            "same" if row["identical"] else "differ",
        ]
        for row in rows
    ]
    return pages.table(titles, lines)


if __name__ == "__main__":
    main()
