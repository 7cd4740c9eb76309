"""What is left of known networks when half of their filters are taken out.

    python benchmarks/shrink.py [--networks NAME ...] [--times NAME ...]

Each network of `keras.applications` (images of 96 x 96 pixels) and backbones of KerasHub in tiny
configurations, with weights of chance, biases and statistics, too: half of the filters of each
group go by their mean square (`prune(structure="filter")`, applied without training), and
`shrink` takes them out. The difference is the largest one between outputs of the masked and the
smaller network for random inputs, beside the largest output; float32.

Channels of a residual stream that is normalized over its channels (transformers, ConvNeXt)
stay, so less is gone there. Times are of a batch of 16, medians of 7 rounds, both in turn.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
SIDE = HERE / "shrinking" / "side.py"
TIMED = ("MobileNetV2", "ResNet50", "VGG16", "EfficientNetB0", "DenseNet121")
DEADLINE_S = 1800


def measure(name, *more):
    """The row of one network."""
    command = [sys.executable, str(SIDE), name, *more]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        return {"network": name, "failed": f"no answer in {DEADLINE_S} s"}
    rows = [line[4:] for line in done.stdout.splitlines() if line.startswith("ROW ")]
    if not rows:
        return {"network": name, "failed": f"the process ended with {done.returncode}"}
    return json.loads(rows[0])


def shown(rows):
    """The last row of each network; and its last one with times."""
    last = {(row["network"], "fit_ms" in row): row for row in rows}
    return list(last.values())


def tables(rows):
    names = list(dict.fromkeys(row["network"] for row in rows))
    last = {row["network"]: row for row in rows}
    done = [last[name] for name in names if "failed" not in last[name]]
    failed = [last[name] for name in names if "failed" in last[name]]
    parts = [
        f"{len(done)} of {len(names)} networks; the largest difference is "
        f"{max(row['difference'] for row in done):.1e}.",
        pages.table(
            ["network", "parameters", "left", "MACs", "gone", "difference", "seconds"],
            [
                [
                    row["network"],
                    f"{row['parameters'][0]:,}",
                    f"{row['parameters'][1] / row['parameters'][0]:.0%}",
                    f"{row['macs'][0]:,}",
                    f"{1 - row['macs'][1] / row['macs'][0]:.0%}",
                    f"{row['difference']:.1e}",
                    row["seconds"],
                ]
                for row in done
            ],
        ),
    ]
    if failed:
        parts.append("Not shrunk, and why:")
        parts.append("\n".join(f"- {row['network']}: {_why(row['failed'])}" for row in failed))
    timed = [row for row in rows if "fit_ms" in row]
    if timed:
        parts.append("## Times, milliseconds a batch")
        titles = ["network", "fit", "smaller", "ratio", "predict", "smaller", "ratio"]
        parts.append(pages.table(titles, [[row["network"], *_times(row)] for row in timed]))
    return "\n\n".join(parts)


def _why(text):
    """Of a long list of kernels and reasons those that the others have not; else its beginning."""
    found = re.findall(r": (without it, .*?|[^;:]* spreads them [^;:]*)(?:;|$)", text)
    return "; ".join(dict.fromkeys(one[:200] for one in found)) or text[:300]


def _times(row):
    cells = []
    for what in ("fit_ms", "predict_ms"):
        before, after = row[what]
        cells += [f"{before:.0f}", f"{after:.0f}", f"{before / after:.2f}"]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", help="by default those without a row")
    parser.add_argument("--times", nargs="*", default=[], help=f"such as {' '.join(TIMED)}")
    args = parser.parse_args()
    sys.path.insert(0, str(SIDE.parent))
    import networks

    known = {row["network"] for row in pages.read("shrink")}
    every = [*networks.APPLICATIONS, *networks.BACKBONES]
    chosen = args.networks if args.networks is not None else [n for n in every if n not in known]
    for name in [] if args.times else chosen:
        pages.append("shrink", row := measure(name))
        print(json.dumps(row), flush=True)
    for name in args.times:
        pages.append("shrink", row := measure(name, "--times"))
        print(json.dumps(row), flush=True)
    pages.publish("shrink")


if __name__ == "__main__":
    main()
