"""A training step of a transformer: plain Keras, tfdist and PyTorch DDP.

    python benchmarks/step_time.py [--rounds 3] [--sides NAME ...]

The transformer has 2.9 M parameters (`transformer/sizes.py`), eight sequences a
worker, Adam, float32; each process has one core. All sides run in turn, `--rounds`
times; a figure is the median over the rounds of the median over 40 steps, and a ratio
the median of each round's own, since the machine may be slower in one round. The side "by
TensorFlow's collectives" sums by gRPC, as where the workers' own connections cannot be made.

PyTorch comes with the extra `bench`; without it its sides are left out.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
TOKENS_A_WORKER = 8 * 64
DEADLINE_S = 300

# name: (program, workers, arguments)
SIDES = {
    "plain Keras": ("keras", 1, ["keras", "plain"]),
    "plain Keras, jit_compile": ("keras", 1, ["keras", "xla"]),
    "tfdist": ("keras", 1, ["tfdist", "plain"]),
    "tfdist, jit_compile": ("keras", 1, ["tfdist", "xla"]),
    "PyTorch": ("torch", 1, []),
    "tfdist, 2 workers": ("keras", 2, ["tfdist", "plain"]),
    "tfdist, jit_compile, 2 workers": ("keras", 2, ["tfdist", "xla"]),
    "tfdist by TensorFlow's collectives, 2 workers": ("keras", 2, ["tfdist-grpc", "plain"]),
    "PyTorch DDP, 2 workers": ("torch", 2, []),
}
# title: the step of one side to that of another
RATIOS = (
    ("tfdist to plain Keras, one process", "plain Keras", "tfdist"),
    ("tfdist, jit_compile to plain Keras, one process", "plain Keras", "tfdist, jit_compile"),
    ("the same, both with jit_compile", "plain Keras, jit_compile", "tfdist, jit_compile"),
    ("tfdist, 2 workers to PyTorch DDP", "PyTorch DDP, 2 workers", "tfdist, 2 workers"),
    (
        "tfdist, jit_compile, 2 workers to PyTorch DDP",
        "PyTorch DDP, 2 workers",
        "tfdist, jit_compile, 2 workers",
    ),
    (
        "own connections to TensorFlow's collectives, 2 workers",
        "tfdist by TensorFlow's collectives, 2 workers",
        "tfdist, 2 workers",
    ),
    ("scaling efficiency, tfdist, 2 workers", "tfdist", "tfdist, 2 workers"),
    (
        "scaling efficiency, tfdist, jit_compile, 2 workers",
        "tfdist, jit_compile",
        "tfdist, jit_compile, 2 workers",
    ),
    ("scaling efficiency, PyTorch DDP, 2 workers", "PyTorch", "PyTorch DDP, 2 workers"),
)


def commands(program, workers, arguments):
    """The command lines of a side, one a process."""
    if program == "keras" and workers > 1:
        script = [str(HERE / "transformer" / "keras_side.py"), *arguments]
        return [[sys.executable, "-m", "tfdist.cli", "run", "-n", str(workers), *script]]
    if program == "keras":
        return [[sys.executable, str(HERE / "transformer" / "keras_side.py"), *arguments]]
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    script = [sys.executable, str(HERE / "transformer" / "torch_side.py")]
    return [[*script, str(rank), str(workers), str(port)] for rank in range(workers)]


def run(program, workers, arguments):
    """Runs a side once, each process on a core of its own; returns what it found."""
    cores = sorted(os.sched_getaffinity(0))
    one_thread = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    environment = {**os.environ, **one_thread, "TF_CPP_MIN_LOG_LEVEL": "3"}
    lines = commands(program, workers, arguments)
    processes = []
    try:
        for number, command in enumerate(lines):
            # `tfdist run` divides the cores among its workers itself.
            mine = cores[:2] if len(lines) < workers else cores[number : number + 1]
            processes.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    preexec_fn=lambda mine=mine: os.sched_setaffinity(0, mine),
                )
            )
        output, _ = processes[0].communicate(timeout=DEADLINE_S)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    found = [line.split("RESULT ", 1)[1] for line in output.splitlines() if "RESULT " in line]
    if not found:
        raise RuntimeError(f"{' '.join(lines[0])} printed no result:\n{output[-2000:]}")
    return json.loads(found[0])


shown = pages.of_last_run


def by_side(rows):
    """`{side: its rows, one a round}`."""
    found = {}
    for row in rows:
        found.setdefault(row["side"], []).append(row)
    return found


def median(rows, figure):
    return statistics.median(row[figure] for row in rows)


def tables(rows):
    """Figures of each side, and the ratios between sides."""
    found = by_side(rows)
    sides = []
    for name, rounds in found.items():
        step = median(rounds, "step_ms")
        calls = [
            f"{median(rounds, key):.0f}" if key in rounds[0] else None
            for key in ("fit_call_ms", "epoch_ms")
        ]
        tokens = f"{SIDES[name][1] * TOKENS_A_WORKER / step * 1e3:.0f}"
        sides.append([name, f"{step:.1f}", tokens, *calls, f"{median(rounds, 'memory_mb'):.0f}"])
    titles = ["side", "step, ms", "tokens/s", "a fit call, ms", "an epoch, ms", "memory, MB"]
    ratios = []
    for title, slower, faster in RATIOS:
        if slower in found and faster in found:
            values = [
                a["step_ms"] / b["step_ms"]
                for a, b in zip(found[slower], found[faster], strict=True)
            ]
            ratios.append([title, f"{statistics.median(values):.2f}", pages.spread(values, ".2f")])
    rounds = len(next(iter(found.values())))
    compared = pages.table(["ratio", f"median of {rounds} rounds", "spread"], ratios)
    return f"{pages.table(titles, sides)}\n\n{compared}"


def plot(found):
    """Draws the steps' times, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = list(reversed(found))
    colors = ["tab:blue" if name.startswith("tfdist") else "lightgray" for name in names]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 0.8), layout="constrained")
    steps = [median(found[name], "step_ms") for name in names]
    bars = axes.barh(names, steps, color=colors)
    axes.bar_label(bars, fmt="%.0f ms", padding=3)
    axes.set_xlabel("a training step, ms (eight sequences a worker); shorter is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    pages.PAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(pages.PAGES / "step_time.svg", metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="NAME")
    args = parser.parse_args()
    sides = {name: SIDES[name] for name in args.sides}
    if importlib.util.find_spec("torch") is None:
        sides = {name: side for name, side in sides.items() if side[0] != "torch"}
        print('PyTorch is left out: pip install "tfdist[bench]" brings it.', file=sys.stderr)
    for number in range(args.rounds):
        for name, side in sides.items():
            row = run(*side)
            print(f"round {number + 1}: {name}: {row['step_ms']:.1f} ms", file=sys.stderr)
            pages.append("step_time", {"side": name, **row})
    plot(by_side(shown(pages.read("step_time"))))
    pages.publish("step_time")


if __name__ == "__main__":
    main()
