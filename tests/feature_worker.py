"""Tries all features in this process and saves what came out; run by the tests.

Usage: feature_worker.py STRATEGY LOGICAL_CPUS OUT, as `equality_worker.py`.
"""

import os
import pathlib
import pickle
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from equality_worker import make_strategy


def main(strategy_name, logical_cpus, out):
    strategy = make_strategy(strategy_name, int(logical_cpus))
    import feature_cases

    import tfdist

    results = {}
    for number, name in enumerate(feature_cases.FEATURES):
        # One directory for all workers, as on a shared disk.
        directory = pathlib.Path(f"{out}.files") / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        try:
            results[name] = feature_cases.run(name, strategy, directory)
        except Exception as error:
            results[name] = f"{type(error).__name__}: {error}"
    with open(f"{out}.{tfdist.rank()}", "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
