"""How far the numbers of several replicas are from those of one process.

    python benchmarks/equalities.py [--float float64 float32] [--no-stock] [--jobs 1]

Each case of `tests/equality_cases.py` is trained for 30 steps in one process and
on several replicas, under tfdist and under stock `tf.distribute`, in batches that leave one
example for the last step; with parameter servers, one step after the other. A cell is the
largest difference of any weight, as a fraction of its tensor's norm; "bits" says
whether all workers of tfdist ended with identical ones.

With `TFDIST_TEST_DEVICE=GPU` all of them train on parts of the first GPU.
"""

import argparse
import concurrent.futures
import pathlib
import pickle
import sys
import tempfile

import numpy as np
import pages

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
WORKER = ROOT / "tests" / "equality_worker.py"
# column title: (strategy, workers, logical devices of each)
TFDIST = {
    "Mirrored x2": ("mirrored", 1, 2),
    "2 workers": ("multi", 2, 1),
    "2 workers x2": ("multi", 2, 2),
    "parameter servers": ("servers", 2, 1),
}
STOCK = {
    "stock Mirrored x2": ("stock_mirrored", 1, 2),
    "stock 2 workers": ("stock_multi", 2, 1),
}


def run(title, strategy, workers, logical_devices, floats, directory, deadline_s=1500):
    """Returns each worker's results, `{"float64 mask": {name: array} or an error, ...}`."""
    import equality_cases
    import gangs

    print(f"running: {title}", file=sys.stderr)
    out = pathlib.Path(directory) / f"{strategy}-{workers}x{logical_devices}"
    out.mkdir()
    cases = [f"{floatx} {name}" for floatx in floats for name in equality_cases.CASES]
    return gangs.run(WORKER, strategy, workers, logical_devices, out, cases, deadline_s)


def difference(one_process, results):
    """The largest difference of a weight, relative to its tensor's norm; or an error's name."""
    if isinstance(results, str):
        return "refused" if "ParameterServerStrategy" in results else results.split(":")[0]
    return max(
        float(np.abs(results[name] - value).max() / max(np.linalg.norm(value), 1e-300))
        for name, value in one_process.items()
        if name.startswith("weight")
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--float", nargs="+", default=["float64", "float32"], dest="floats")
    parser.add_argument("--no-stock", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="columns trained at once")
    args = parser.parse_args()
    columns = TFDIST if args.no_stock else {**TFDIST, **STOCK}
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    with tempfile.TemporaryDirectory() as directory:
        found = {
            title: pool.submit(run, title, *where, args.floats, directory)
            for title, where in {"one process": ("none", 1, 1), **columns}.items()
        }
        try:
            (one_process,) = found.pop("one process").result()
            results = {title: column.result() for title, column in found.items()}
        finally:
            pool.shutdown(cancel_futures=True)  # after an error no other column begins

    for floatx in args.floats:
        for key in (key for key in one_process if key.startswith(f"{floatx} ")):
            row = {
                title: difference(one_process[key], workers[0][key])
                for title, workers in results.items()
            }
            identical = all(
                pickle.dumps(workers[0][key]) == pickle.dumps(worker[key])
                for title, workers in results.items()
                if title in TFDIST
                for worker in workers
            )
            row = {"case": key.partition(" ")[2], "float": floatx, **row, "identical": identical}
            pages.append("equalities", row)
    pages.publish("equalities")


shown = pages.of_last_run


def tables(rows):
    """One table for each precision."""
    texts = []
    for floatx in dict.fromkeys(row["float"] for row in rows):
        mine = [row for row in rows if row["float"] == floatx]
        columns = [title for title in (*TFDIST, *STOCK) if title in mine[0]]
        lines = []
        for row in mine:
            cells = [row[title] for title in columns]
            cells = [cell if isinstance(cell, str) else f"{cell:.0e}" for cell in cells]
            lines.append([row["case"], *cells, "same" if row["identical"] else "differ"])
        texts.append(pages.table([f"{floatx}, 30 steps", *columns, "bits"], lines))
    return "\n\n".join(texts)


if __name__ == "__main__":
    main()
