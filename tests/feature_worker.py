"""Tries features in this process and notes what came out, one after the other.

Usage: feature_worker.py STRATEGY LOGICAL_DEVICES OUT [FEATURE ...], of all features if none is
named; STRATEGY as for `equality_worker.py`. `gangs.read` reads what it notes in OUT.INDEX.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gangs
from equality_worker import make_strategy


def main(strategy_name, logical_devices, out, *names):
    strategy = make_strategy(strategy_name, int(logical_devices))
    import feature_cases

    def run(name):
        # One directory for all workers, as on a shared disk.
        directory = pathlib.Path(f"{out}.files") / name
        directory.mkdir(parents=True, exist_ok=True)
        return feature_cases.run(name, strategy, directory)

    gangs.work(strategy_name, out, names or feature_cases.FEATURES, run)


if __name__ == "__main__":
    main(*sys.argv[1:])
