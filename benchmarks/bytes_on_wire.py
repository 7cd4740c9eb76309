"""Bytes that each way to agree should send, and those that leave the host.

    python benchmarks/bytes_on_wire.py [--sides NAME ...]

Two hosts (network namespaces) without a limit train the character language model of
`char_lm/settings.py`. The formula is `bytes_per_step` of the algorithm; the counter is
`tx_bytes` of a host's interface over 64 steps, those of whole periods, after the first;
the mean of both hosts. Payload is that less the headers of Ethernet, IP and TCP, 66 bytes
a packet; a virtual link carries packets of up to 64 kB, where Ethernet needs a header for
1448 bytes (5 % more, and acknowledgements). What it holds beyond the formula are the sums
of losses and metrics of a synchronous step, TensorFlow's heartbeats, and what was sent
again.

Then PowerSGD's ratios on the shapes of ResNet-18, which its paper gives as 243, 136 and
72 for the ranks 1, 2 and 4 (1905.13727, table 3).
"""

import argparse
import json
import math
import pathlib
import sys

import pages
import two_hosts

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 64  # a multiple of all periods below
HEADERS = 14 + 20 + 32  # Ethernet, IP, TCP with its timestamps
DEADLINE_S = 300
PUBLISHED = {1: 243, 2: 136, 4: 72}  # PowerSGD's ratios for ResNet-18, by rank

SIDES = {
    "SyncSGD": ("SyncSGD", {}),
    "LocalSGD, period 16": ("LocalSGD", {"period": 16}),
    "DiLoCo, period 32": ("DiLoCo", {"period": 32}),
    "DiLoCo, period 32, 4 fragments": ("DiLoCo", {"period": 32, "fragments": 4}),
    "DiLoCo, period 32, Int8": ("DiLoCo", {"period": 32, "compressor": ["Int8"]}),
    "DiLoCo, period 32, OneBit": ("DiLoCo", {"period": 32, "compressor": ["OneBit"]}),
    "PartialSync, groups of 2, resync every 16": (
        "PartialSync",
        {"group_size": 2, "resync_every": 16},
    ),
    "BFloat16": ("SyncSGD", {"compressor": ["BFloat16"]}),
    "Float16": ("SyncSGD", {"compressor": ["Float16"]}),
    "Int8": ("SyncSGD", {"compressor": ["Int8"]}),
    "OneBit": ("SyncSGD", {"compressor": ["OneBit"]}),
    "TopK(0.01)": ("SyncSGD", {"compressor": ["TopK", 0.01]}),
    "PowerSGD(1)": ("SyncSGD", {"compressor": ["PowerSGD", 1]}),
    "PowerSGD(4)": ("SyncSGD", {"compressor": ["PowerSGD", 4]}),
}


def measure(hosts, name):
    """The row of one side."""
    callback, arguments = SIDES[name]
    side = {"callback": callback, "arguments": arguments, "jit_compile": False, "target": None}
    # The first step is not counted; so that whole periods are, the last is one more.
    side.update({"steps": STEPS + 1, "evaluate_every": STEPS + 1})
    command = [sys.executable, str(HERE / "char_lm" / "keras_side.py"), json.dumps(side)]
    results = two_hosts.run_pair(
        hosts, [command, command], two_hosts.keras_environments(hosts), DEADLINE_S
    )
    points = [point for result in results for point in result["points"]]
    sent = sum(point["sent"] for point in points) / len(points) / STEPS
    packets = sum(point["packets"] for point in points) / len(points) / STEPS
    return {
        "side": name,
        "formula": results[0]["bytes_per_step"],
        "interface": sent,
        "packets": packets,
        "payload": sent - HEADERS * packets,
        "whole": 4 * results[0]["parameters"],
    }


def resnet18(classes=10):
    """Shapes of ResNet-18's variables on CIFAR-10, in Keras' order of dimensions."""

    def convolution(size, inputs, outputs):
        return [(size, size, inputs, outputs), (outputs,), (outputs,)]  # and its normalization

    shapes, inputs = convolution(3, 3, 64), 64
    for outputs in (64, 128, 256, 512):
        for _ in range(2):
            shapes += convolution(3, inputs, outputs) + convolution(3, outputs, outputs)
            if inputs != outputs:
                shapes += convolution(1, inputs, outputs)
            inputs = outputs
    return [*shapes, (512, classes), (classes,)]


def power_sgd_ratios():
    """How many times less PowerSGD sends for ResNet-18, by rank."""
    from tfdist.gradient_compression import PowerSGD

    shapes = resnet18()
    whole = 4 * sum(math.prod(shape) for shape in shapes)
    # Two workers send what they have once, in an all-reduce.
    return {rank: whole / PowerSGD(rank).bytes_per_step(shapes, 2) for rank in (1, 2, 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", nargs="*", choices=SIDES, default=list(SIDES), metavar="NAME")
    args = parser.parse_args()
    for name in args.sides:
        with two_hosts.linked() as hosts:
            row = measure(hosts, name)
        print(f"{name}: {row['payload'] / row['formula']:.3f}", file=sys.stderr, flush=True)
        pages.append("bytes_on_wire", row)
    for rank, ratio in power_sgd_ratios().items():
        row = {"side": f"ResNet-18, PowerSGD({rank})", "rank": rank, "ratio": ratio}
        pages.append("bytes_on_wire", {**row, "published": PUBLISHED[rank]})
    pages.publish("bytes_on_wire")


def shown(rows):
    """The last row of each side."""
    return list({row["side"]: row for row in rows}.values())


def tables(rows):
    """Bytes by side, and PowerSGD's ratios."""
    lines = []
    for row in (row for row in rows if "formula" in row):
        counts = [f"{row[key]:.0f}" for key in ("formula", "payload", "interface")]
        measured = f"{row['payload'] / row['formula']:.3f}"
        lines.append([row["side"], *counts, measured, f"{row['whole'] / row['formula']:.1f}"])
    titles = ["bytes a step of a worker", "formula", "payload", "interface"]
    sent = pages.table([*titles, "payload / formula", "float32 / formula"], lines)
    titles = ["PowerSGD on ResNet-18", "less by the formula", "in the paper"]
    lines = [
        [f"rank {row['rank']}", f"{row['ratio']:.0f}x", f"{row['published']}x"]
        for row in rows
        if "rank" in row
    ]
    return f"{sent}\n\n{pages.table(titles, lines)}"


if __name__ == "__main__":
    main()
