"""Training to a loss over a slow link: tfdist's ways to agree, and PyTorch's.

    python benchmarks/slow_link.py [--links none 100mbit 10mbit] [--sides NAME ...]

Two hosts (network namespaces) with one worker each, which has one core; their link
carries so much each way (`tc` tbf). The character language model of
`char_lm/settings.py` (0.82 M parameters, 3.3 MB of gradients) is trained until its
validation loss is `--target`: the loss of the average model on 256 fixed sequences,
every 32 steps, interpolated in between. Seconds and bytes are those of training from
the end of the first step; evaluation, start-up and tracing are not counted, on any
side. Bytes are what a worker's interface sent, headers and all.

A side that communicates in every step and would take longer than `--max-seconds` on a
link runs 20 steps there; its seconds are those a step, times the steps that it took
without a limit, since the loss after a step does not depend on the link. Of a side that
compresses after a warm-up, the short run's first half is the warm-up, and each half's
seconds count for the steps of their kind. Such rows are marked with an asterisk.

PowerSGD's first 50 steps are not compressed, here as in PyTorch.

All sides run in turn on each link. PyTorch comes with the extra `bench`.
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import pages
import two_hosts

HERE = pathlib.Path(__file__).resolve().parent
# Local training has averaged its models at each of these steps anyway.
EVALUATE_EVERY, MAX_STEPS, SHORT_STEPS = 32, 1600, 20
DEADLINE_S = 600


def tfdist(callback, every_step=False, **arguments):
    side = {"callback": callback, "arguments": arguments, "jit_compile": True}
    return {"program": "keras", "every_step": every_step, "settings": side}


def pytorch(hook, every_step=False, **settings):
    return {
        "program": "torch",
        "every_step": every_step,
        "settings": {"hook": hook, **settings},
    }


def compressed(name, *values):
    arguments = {"compressor": [name, *values], "warmup_steps": 50}
    return tfdist("SyncSGD", every_step=True, **arguments)


SIDES = {
    "tfdist SyncSGD": tfdist("SyncSGD", every_step=True),
    "PyTorch DDP": pytorch(None, every_step=True),
    "tfdist LocalSGD(32)": tfdist("LocalSGD", period=32),
    "PyTorch post-local SGD(32)": pytorch("post_local_sgd", start=2, period=32),
    "tfdist DiLoCo(32)": tfdist("DiLoCo", period=32),
    "tfdist DiLoCo(32, Int8)": tfdist("DiLoCo", period=32, compressor=["Int8"]),
    "tfdist DiLoCo(32, 4 fragments, Int8)": tfdist(
        "DiLoCo", period=32, fragments=4, compressor=["Int8"]
    ),
    "tfdist PowerSGD(8)": compressed("PowerSGD", 8),
    "PyTorch DDP, PowerSGD(8)": pytorch("powersgd", rank=8, start=50),
}
MORE_SIDES = {
    "tfdist DiLoCo(32, OneBit)": tfdist("DiLoCo", period=32, compressor=["OneBit"]),
    "tfdist BFloat16": compressed("BFloat16"),
    "tfdist Int8": compressed("Int8"),
    "tfdist OneBit": compressed("OneBit"),
    "tfdist TopK(0.01)": compressed("TopK", 0.01),
}
EVERY_SIDE = {**SIDES, **MORE_SIDES}


def warm_up_of(side):
    """How many steps a side goes uncompressed first."""
    settings = side["settings"]
    return settings.get("start", settings.get("arguments", {}).get("warmup_steps", 0))


def with_warm_up(side, steps):
    settings = dict(side["settings"])
    if side["program"] == "keras":
        settings["arguments"] = {**settings["arguments"], "warmup_steps": steps}
    else:
        settings["start"] = steps
    return {**side, "settings": settings}


def train(name, link, target, steps, evaluate_every, warm_up=None):
    """Runs a side on a link; returns a row without the target's time."""
    side = EVERY_SIDE[name]
    if warm_up is not None:
        side = with_warm_up(side, warm_up)
    settings = {"steps": steps, "evaluate_every": evaluate_every, "target": target}
    settings.update(side["settings"])
    script = [sys.executable, str(HERE / "char_lm" / f"{side['program']}_side.py")]
    commands = [[*script, json.dumps(settings)] for _ in range(2)]
    with two_hosts.linked(None if link == "none" else link) as hosts:
        if side["program"] == "keras":
            environments = two_hosts.keras_environments(hosts)
        else:
            environments = two_hosts.torch_environments(hosts)
            for rank, command in enumerate(commands):
                command += [str(rank), f"{hosts[0].ip}:{two_hosts.PORT}"]
        results = two_hosts.run_pair(hosts, commands, environments, DEADLINE_S)
    curve = _curve(results)
    row = {"link": link, "side": name}
    row.update({"target": target, "settings": side["settings"], "curve": curve})
    row.update({key: value for key, value in results[0].items() if key.startswith("sync_")})
    trained = curve[-1][0] - 1  # the first step is not counted
    row["step_seconds"], row["step_bytes"] = (total / trained for total in curve[-1][1:3])
    return row


def _curve(results):
    """A list of `[step, seconds, bytes, loss]`; of the workers the slower, and their mean."""
    curve, seconds, sent = [], 0.0, 0
    for points in zip(*(result["points"] for result in results)):
        seconds += max(point["seconds"] for point in points)
        sent += sum(point["sent"] for point in points) / len(points)
        curve.append([points[0]["step"], seconds, sent, points[0]["loss"]])
    return curve


def reach(curve, target):
    """`(steps, seconds, bytes)` when the loss was `target`; None where it never was."""
    before = None
    for step, seconds, sent, loss in curve:
        if loss <= target:
            if before is None:
                return step, seconds, sent
            part = (before[3] - target) / (before[3] - loss)
            return tuple(a + part * (b - a) for a, b in zip(before, (step, seconds, sent)))
        before = (step, seconds, sent, loss)
    return None


def measure(name, link, args, found):
    """The row of a side on a link, run to the target or, where that is long, projected."""
    unlimited = found.get(("none", name))
    if link != "none" and EVERY_SIDE[name]["every_step"] and unlimited:
        rate = float(link.removesuffix("mbit")) * 1e6 / 8
        expected = unlimited["seconds"] + unlimited["bytes"] / rate
        if expected > args.max_seconds:
            half = SHORT_STEPS // 2
            warm_up = warm_up_of(EVERY_SIDE[name])
            row = train(name, link, None, SHORT_STEPS, half, half if warm_up else None)
            return project(row, unlimited, warm_up)
    row = train(name, link, args.target, MAX_STEPS, EVALUATE_EVERY)
    reached = reach(row["curve"], args.target)
    row["projected"] = False
    row["steps"], row["seconds"], row["bytes"] = reached or (None, None, None)
    return row


def project(row, unlimited, warm_up):
    """Fills in when `row`, a short run, would have reached the target."""
    (first, *early), (last, *late) = (point[:3] for point in row["curve"])
    late = [(b - a) / (last - first) for a, b in zip(early, late)]
    # The first step is not counted; without a warm-up all steps are alike.
    early = (
        [a / (first - 1) for a in early] if warm_up else [row["step_seconds"], row["step_bytes"]]
    )
    late = late if warm_up else early

    def at(step):
        warm = min(step, warm_up) - 1 if warm_up else step - 1
        return [warm * a + (step - 1 - warm) * b for a, b in zip(early, late)]

    curve = [[step, *at(step), loss] for step, _, _, loss in unlimited["curve"]]
    steps, target = unlimited["steps"], unlimited["target"]
    seconds, sent = at(steps)
    row["step_seconds"], row["step_bytes"] = late
    filled = {"target": target, "projected": True, "steps": steps, "seconds": seconds}
    return {**row, **filled, "bytes": sent, "curve": curve}


def tables(rows):
    """A table a link, and what the best side gains on each."""
    found = {(row["link"], row["side"]): row for row in rows}
    links = list(dict.fromkeys(link for link, _ in found))
    texts = []
    for link in links:
        mine = [row for row in rows if row["link"] == link]
        limit = "no limit" if link == "none" else link.replace("mbit", " Mbit/s")
        titles = [f"{limit}, to a loss of {mine[0]['target']}", "steps", "seconds"]
        titles += ["times SyncSGD's", "ms a step", "MB sent", "kB a step"]
        whole = found.get((link, "tfdist SyncSGD"), {}).get("seconds")
        texts.append(pages.table(titles, [_cells(row, whole) for row in mine]))
    return "\n\n".join([*texts, _goals(found)])


def _cells(row, whole):
    step, sent = f"{1e3 * row['step_seconds']:.1f}", f"{1e-3 * row['step_bytes']:.1f}"
    if row["seconds"] is None:
        lowest = min(loss for *_, loss in row["curve"])
        return [row["side"], None, f"not reached ({lowest:.3f})", None, step, None, sent]
    seconds = f"{row['seconds']:.1f}" + ("*" if row["projected"] else "")
    ratio = f"{row['seconds'] / whole:.3f}" if whole else None
    total = f"{1e-6 * row['bytes']:.1f}"
    return [row["side"], f"{row['steps']:.0f}", seconds, ratio, step, total, sent]


def _goals(found):
    def best(link, library):
        times = {
            name: row["seconds"]
            for (its_link, name), row in found.items()
            if its_link == link and name.startswith(library) and row["seconds"]
        }
        return min(times, key=times.get, default=None)

    lines = []
    for link in dict.fromkeys(link for link, _ in found):
        ours, theirs = best(link, "tfdist"), best(link, "PyTorch")
        if ours is None:
            continue
        seconds = found[link, ours]["seconds"]
        cells = []
        for key, over in (
            (("none", ours), seconds),
            ((link, "tfdist SyncSGD"), seconds),
            ((link, theirs), seconds),
        ):
            other = found.get(key, {}).get("seconds")
            cells.append(f"{other / over:.2f}" if other else None)
        lines.append([link, ours, *cells[:2], theirs, cells[2]])
    titles = ["link", "tfdist's best", "its time without a limit / here", "SyncSGD / it"]
    return pages.table([*titles, "PyTorch's best", "PyTorch's best / it"], lines)


def plot(found):
    """Draws loss against time on each link, and against bytes, where matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot, ticker

    links = list(dict.fromkeys(link for link, _ in found))
    names = list(dict.fromkeys(name for _, name in found))
    colors = {name: pyplot.get_cmap("tab20")(i % 20) for i, name in enumerate(names)}
    width = 4 * (len(links) + 1)
    figure, every = pyplot.subplots(
        1, len(links) + 1, figsize=(width, 4.5), sharey=True, layout="constrained"
    )
    for (link, name), row in found.items():
        _, seconds, sent, losses = zip(*row["curve"])
        style = {"color": colors[name], "linestyle": "--" if row["projected"] else "-"}
        every[links.index(link)].plot(seconds, losses, **style)
        if link == links[0]:
            every[-1].plot([1e-6 * one for one in sent], losses, label=name, **style)
    for axes, link in zip(every, links):
        axes.set_xlabel("seconds of training")
        axes.set_title("no limit" if link == "none" else link.replace("mbit", " Mbit/s"))
    every[-1].set_xlabel("MB that a worker sent")
    every[0].set_ylabel("validation loss of the average model")
    for axes in every:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(ticker.NullFormatter())
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    pages.PAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(pages.PAGES / "slow_link.svg", metadata={"Date": None})


def shown(rows):
    """The latest row of each side on each link to the last target, in `EVERY_SIDE`'s order."""
    return list(latest(rows, rows[-1]["target"]).values()) if rows else []


def latest(rows, target):
    """`{(link, side): its latest row}`."""
    found = {
        (row["link"], row["side"]): row
        for row in rows
        if row["target"] == target and row["side"] in EVERY_SIDE
    }
    links = sorted({link for link, _ in found}, key=_speed, reverse=True)
    keys = [(link, name) for link in links for name in EVERY_SIDE]
    return {key: found[key] for key in keys if key in found}


def _speed(link):
    return float("inf") if link == "none" else float(link.removesuffix("mbit"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--links", nargs="+", default=["none", "100mbit", "10mbit"])
    names = {"nargs": "+", "choices": EVERY_SIDE, "metavar": "NAME"}
    parser.add_argument("--sides", default=list(SIDES), **names)
    parser.add_argument("--target", type=float, default=2.2, help="validation loss")
    parser.add_argument("--max-seconds", type=float, default=60.0)
    args = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        args.sides = [name for name in args.sides if name.startswith("tfdist")]
        print('PyTorch is left out: pip install "tfdist[bench]" brings it.', file=sys.stderr)
    for link in sorted(args.links, key=_speed, reverse=True):
        for name in args.sides:
            row = measure(name, link, args, latest(pages.read("slow_link"), args.target))
            print(f"{link}: {_cells(row, None)}", file=sys.stderr, flush=True)
            pages.append("slow_link", row)
    plot(latest(pages.read("slow_link"), args.target))
    pages.publish("slow_link")


if __name__ == "__main__":
    main()
