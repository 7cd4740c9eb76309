"""What pruning costs in accuracy: single weights, and half of the multiplications.

    python benchmarks/pruning.py [--nets NAME ...] [--seeds 0 1 2 3 4]

A dense net is trained, and all arms but it go on from its weights for the same number of further
epochs: pruned, or as it is ("dense, trained as long"), which is what the others are compared
with, seed by seed. `pruning_nets/arms.py` says what each of them does. "Half the MACs" prunes
filters and neurons by their L2 norm, takes them out with `shrink`, and trains the small model,
with the labels alone or also with what the dense net says (`keras.distillation.Distiller`).

All layers are pruned, the first and the last, too. Rates, dropout and temperature are chosen for
each arm, also for the dense ones, on the first seed, by examples that were held out of those to
train with (10,000 images); where nothing is listed as tried, nothing was chosen. The accuracies
are those of the test set, by which nothing was chosen. TensorFlow has one thread. The CNN is the
second one: a smaller one (3 x 3 filters first, a Dense of 64) had lost 2.7 points at 80 %, on the
held-out images of one seed, and was given up before it was measured on the test set.

Rows that are there already are not measured again.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import itertools
import os
import pathlib
import statistics
import sys

import pages

HERE = pathlib.Path(__file__).resolve().parent
DENSE, AS_LONG = "dense", "dense, trained as long"
HALF, DISTILLED = "half the MACs", "half the MACs, distilled"


@dataclasses.dataclass(frozen=True)
class Net:
    """What is trained of a net.

    Attributes:
        title: str.
        settings: dict of an arm to the list of settings that are tried for it.
    """

    title: str
    settings: dict[str, list[dict[str, float]]]

    @property
    def arms(self):
        return tuple(self.settings)


def _settings(*rows, names=("rate", "dropout", "temperature")):
    return [dict(zip(names, row)) for row in rows]


NETS = {
    "fashion_cnn": Net(
        "CNN on Fashion-MNIST",
        {
            DENSE: _settings((2e-3, 0.3), (4e-3, 0.3), (4e-3, 0.5)),
            AS_LONG: _settings((1e-3, 0.3), (3e-3, 0.3), (3e-3, 0.0)),
            "80 % magnitude": _settings((1e-3, 0.3), (3e-3, 0.3), (3e-3, 0.0), (6e-3, 0.0)),
            "90 % magnitude, global": _settings((3e-3, 0.0), (6e-3, 0.0)),
            "90 % random": _settings((3e-3, 0.0)),
            HALF: _settings((1e-3, 0.3), (3e-3, 0.3)),
            DISTILLED: _settings((1e-3, 0.3, 4.0), (3e-3, 0.0, 4.0)),
        },
    ),
    "mobile": Net(
        "Net like MobileNetV2 on Fashion-MNIST",
        {
            DENSE: [{"rate": 4e-3}],
            AS_LONG: [{"rate": 2e-3}],
            "80 % magnitude": [{"rate": 2e-3}],
            "90 % magnitude, global": [{"rate": 2e-3}],
            "90 % random": [{"rate": 2e-3}],
            HALF: [{"rate": 2e-3}],
            DISTILLED: [{"rate": 2e-3, "temperature": 4.0}],
        },
    ),
    "brown": Net(
        "Transformer on the Brown corpus",
        {
            DENSE: [{"rate": 2e-3}],
            AS_LONG: [{"rate": 1e-3}, {"rate": 3e-3}],
            "90 % magnitude": [{"rate": 1e-3}, {"rate": 3e-3}],
            "90 % movement": [{"rate": 1e-3}, {"rate": 3e-3}],
        },
    ),
}
# arm: how many points of accuracy it may lose; the distilled one at the interval's upper end
CLAIMS = {"80 % magnitude": 0.3, "90 % magnitude, global": 1.0, DISTILLED: 0.5}
# Student's t at 97.5 %, by the number of values
T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def measure(name, job, dense_settings):
    """The row of a job: the one that is there, or a new one."""
    for row in pages.read("pruning"):
        if row["net"] == name and all(row[key] == value for key, value in job.items()):
            return row
    import arms

    row = {"net": name, **arms.trained(importlib.import_module(name), job, dense_settings)}
    print(describe(row), file=sys.stderr, flush=True)
    pages.append("pruning", row)
    return row


def describe(row):
    stage = "held out" if row["tuning"] else "test"
    accuracy = f"{100 * row['accuracy']:.2f} % ({stage})"
    return f"{row['net']}, seed {row['seed']}, {row['arm']}, {row['settings']}: {accuracy}"


def best(name, seed):
    """`{arm: the settings that are best for it on the first seed's held-out images}`."""
    found = {}
    for arm, tried in NETS[name].settings.items():
        jobs = [
            {"arm": arm, "seed": seed, "tuning": True, "settings": settings} for settings in tried
        ]
        if len(jobs) > 1:
            jobs = [measure(name, job, found.get(DENSE)) for job in jobs]
        found[arm] = max(jobs, key=lambda job: job.get("accuracy", 0))["settings"]
    return found


def shown(rows):
    return rows


def tables(rows):
    parts = []
    for name, net in NETS.items():
        mine = [row for row in rows if row["net"] == name]
        if not (found := whole_seeds(mine, net.arms)):
            continue
        parts.append(f"## {net.title}\n\n{_accuracies(found, net.arms)}")
        if len(found) > 1:
            parts.append(_claims(found))
        if tried := [row for row in mine if row["tuning"]]:
            parts.append(_tried(tried, net.arms))
    return "\n\n".join(parts)


def whole_seeds(rows, arms):
    """`{seed: {arm: row}}` of those seeds that have all arms: means are over the same ones."""
    by_seed = {}
    for row in rows:
        if not row["tuning"]:
            by_seed.setdefault(row["seed"], {})[row["arm"]] = row
    return {seed: found for seed, found in sorted(by_seed.items()) if set(arms) <= set(found)}


def interval(values):
    """Mean, and half of its 95 % interval by Student's t; None of one value."""
    mean, count = statistics.mean(values), len(values)
    half = T[count] * statistics.stdev(values) / count**0.5 if count > 1 else None
    return mean, half


def differences(found, arm, other):
    """In points, by seed."""
    return [100 * (one[arm]["accuracy"] - one[other]["accuracy"]) for one in found.values()]


def _with_interval(values, form):
    mean, half = interval(values)
    return f"{mean:{form}}" + (f" ± {half:.2f}" if half is not None else "")


def _accuracies(found, arms):
    lines = []
    for arm in arms:
        mine = [one[arm] for one in found.values()]
        to = [
            _with_interval(differences(found, arm, other), "+.2f") if arm != other else None
            for other in (AS_LONG, DENSE)
        ]
        accuracy = _with_interval([100 * row["accuracy"] for row in mine], ".2f")
        loss = f"{statistics.mean(row['loss'] for row in mine):.3f}"
        zeros = f"{100 * statistics.mean(row['zeros'] for row in mine):.1f} %"
        size = [f"{mine[0][name]:,}" for name in ("parameters", "macs")]
        lines.append([arm, mine[0]["epochs"], accuracy, *to, loss, zeros, *size])
    titles = ["arm", "epochs", "accuracy, %", "to dense, trained as long", "to dense", "loss"]
    titles += ["zeros in kernels", "parameters", "MACs"]
    what = f"Seeds {list(found)}"
    if len(found) > 1:
        what += ": the mean, and ± half of the 95 % interval over seeds (Student's t)"
    return f"{what}; differences in points, paired by seed:\n\n{pages.table(titles, lines)}"


def _claims(found):
    lines = []
    for arm, most in CLAIMS.items():
        mean, half = interval([-value for value in differences(found, arm, AS_LONG)])
        figure, what = (mean + half, "upper end") if arm == DISTILLED else (mean, "mean")
        met = "yes" if figure <= most else "no"
        lines.append([arm, f"{mean:+.2f}", f"{mean + half:+.2f}", f"{what} at most {most}", met])
    titles = ["arm", "points lost, mean", "upper end", "asked", "met"]
    return f"Points lost to the dense net that trained as long:\n\n{pages.table(titles, lines)}"


def _tried(rows, arms):
    lines = []
    for arm in arms:
        mine = [row for row in rows if row["arm"] == arm]
        if mine:
            ranked = sorted(mine, key=lambda row: -row["accuracy"])
            said = [f"{_said(row['settings'])}: {100 * row['accuracy']:.2f}" for row in ranked]
            lines.append([arm, said[0], "; ".join(said[1:])])
    titles = ["arm", "chosen", "tried, too"]
    where = "Settings, and the accuracy on the held-out images of the first seed:"
    return f"{where}\n\n{pages.table(titles, lines)}"


def _said(settings):
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def plot(rows):
    """Draws accuracy against weights left and MACs, where matplotlib is installed."""
    arms = NETS["fashion_cnn"].arms
    found = whole_seeds([row for row in rows if row["net"] == "fashion_cnn"], arms)
    if importlib.util.find_spec("matplotlib") is None or not found:
        return
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, every = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    dense = next(iter(found.values()))[DENSE]
    for number, arm in enumerate(arms):
        mine = [one[arm] for one in found.values()]
        mean, half = interval([100 * row["accuracy"] for row in mine])
        left = mine[0]["parameters"] * (1 - mine[0]["zeros"]) / dense["parameters"]
        style = {"fmt": "o", "capsize": 3, "color": f"C{number}"}
        for axes, x in zip(every, (100 * left, 100 * mine[0]["macs"] / dense["macs"])):
            axes.errorbar(x, mean, yerr=half, label=arm if axes is every[0] else None, **style)
    every[0].set_xlabel("weights that are not zero, % of the dense net's")
    every[1].set_xlabel("multiplications, % of the dense net's")
    every[0].set_ylabel("test accuracy, %")
    for axes in every:
        axes.set_xlim(0, 105)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    pages.PAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(pages.PAGES / "pruning.svg", metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="+", default=["fashion_cnn"], choices=NETS, metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.path.insert(0, str(HERE / "pruning_nets"))
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in args.nets:
        chosen = best(name, args.seeds[0])
        for seed, arm in itertools.product(args.seeds, NETS[name].arms):
            job = {"arm": arm, "seed": seed, "tuning": False, "settings": chosen[arm]}
            measure(name, job, chosen[DENSE])
    plot(pages.read("pruning"))
    pages.publish("pruning")


if __name__ == "__main__":
    main()
