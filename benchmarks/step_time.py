"""Times a training step of a transformer: plain Keras, tfdist and PyTorch DDP.

    python benchmarks/step_time.py [--rounds 3] [--sides NAME ...]

The transformer has 2.9 M parameters (`transformer/sizes.py`), eight sequences a
worker, Adam, float32; each process has one core. All sides run in turn, `--rounds`
times; a figure is the median over the rounds of the median over 40 steps, and a ratio
the median of each round's own, since the machine may be slower in one round. Prints
Markdown tables, appends one JSON line a run to `results/step_time.jsonl` and draws
`results/step_time.svg`.

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
import time

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results" / "step_time.jsonl"
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


def medians(rows):
    """The median of each figure over the rounds."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def print_tables(rows):
    found = {name: medians(results) for name, results in rows.items()}
    print("\n| side | step, ms | tokens/s | a fit call, ms | an epoch, ms | memory, MB |")
    print("|---|---|---|---|---|---|")
    for name, side in found.items():
        tokens = SIDES[name][1] * TOKENS_A_WORKER / side["step_ms"] * 1e3
        calls = [f"{side[key]:.0f}" if key in side else "-" for key in ("fit_call_ms", "epoch_ms")]
        cells = [f"{side['step_ms']:.1f}", f"{tokens:.0f}", *calls, f"{side['memory_mb']:.0f}"]
        print(f"| {name} | {' | '.join(cells)} |")

    def ratio(title, slower, faster):
        if slower in found and faster in found:
            values = [
                a["step_ms"] / b["step_ms"] for a, b in zip(rows[slower], rows[faster], strict=True)
            ]
            spread = f"{min(values):.2f} to {max(values):.2f}"
            print(f"| {title} | {statistics.median(values):.2f} | {spread} |")

    print(f"\n| ratio | median of {len(next(iter(rows.values())))} rounds | spread |")
    print("|---|---|---|")
    ratio("tfdist to plain Keras, one process", "plain Keras", "tfdist")
    ratio("tfdist, jit_compile to plain Keras, one process", "plain Keras", "tfdist, jit_compile")
    ratio(
        "the same, both with jit_compile",
        "plain Keras, jit_compile",
        "tfdist, jit_compile",
    )
    for name in ("tfdist, 2 workers", "tfdist, jit_compile, 2 workers"):
        ratio(f"{name} to PyTorch DDP", "PyTorch DDP, 2 workers", name)
    ratio(
        "own connections to TensorFlow's collectives, 2 workers",
        "tfdist by TensorFlow's collectives, 2 workers",
        "tfdist, 2 workers",
    )
    for one, two in (
        ("tfdist", "tfdist, 2 workers"),
        ("tfdist, jit_compile", "tfdist, jit_compile, 2 workers"),
        ("PyTorch", "PyTorch DDP, 2 workers"),
    ):
        ratio(f"scaling efficiency, {two}", one, two)


def plot(found):
    """Draws the steps' times into `results/step_time.svg`, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = list(reversed(found))
    colors = ["tab:blue" if name.startswith("tfdist") else "lightgray" for name in names]
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(names) + 0.8), layout="constrained")
    bars = axes.barh(names, [found[name]["step_ms"] for name in names], color=colors)
    axes.bar_label(bars, fmt="%.0f ms", padding=3)
    axes.set_xlabel("a training step, ms (eight sequences a worker); shorter is better")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.1)
    figure.savefig(RESULTS.with_suffix(".svg"), metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), metavar="NAME")
    args = parser.parse_args()
    sides = {name: SIDES[name] for name in args.sides}
    if importlib.util.find_spec("torch") is None:
        sides = {name: side for name, side in sides.items() if side[0] != "torch"}
        print('PyTorch is left out: pip install "tfdist[bench]" brings it.', file=sys.stderr)
    rows = {name: [] for name in sides}
    RESULTS.parent.mkdir(exist_ok=True)
    for number in range(args.rounds):
        for name, side in sides.items():
            rows[name].append(run(*side))
            print(
                f"round {number + 1}: {name}: {rows[name][-1]['step_ms']:.1f} ms", file=sys.stderr
            )
            with open(RESULTS, "a") as file:
                row = {"side": name, "time": time.strftime("%Y-%m-%d %H:%M"), **rows[name][-1]}
                file.write(json.dumps(row) + "\n")
    print_tables(rows)
    plot({name: medians(results) for name, results in rows.items()})


if __name__ == "__main__":
    main()
