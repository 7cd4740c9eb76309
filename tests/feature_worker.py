"""Tries features in this process and saves what came out, one after the other.

Usage: feature_worker.py STRATEGY LOGICAL_DEVICES OUT [FEATURE ...], as `equality_worker.py`.
Appends `(feature, numbers or an error)` to OUT.INDEX as soon as it is known, so that
whoever started this sees which one never ends; `feature_results.read` reads it.
"""

import json
import os
import pathlib
import pickle
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
from equality_worker import make_strategy


def main(strategy_name, logical_devices, out, *names):
    strategy = make_strategy(strategy_name, int(logical_devices))
    import feature_cases

    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    with open(f"{out}.{config.get('task', {}).get('index', 0)}", "ab") as file:
        for name in names or feature_cases.FEATURES:
            # One directory for all workers, as on a shared disk.
            directory = pathlib.Path(f"{out}.files") / name
            directory.mkdir(parents=True, exist_ok=True)
            broken = False
            try:
                result = feature_cases.run(name, strategy, directory)
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
                broken = isinstance(error, tf.errors.OpError)
            pickle.dump((name, result), file)
            file.flush()
            if broken and strategy_name == "stock_multi":
                # Its collectives are aborted: the next feature deserves a new process.
                sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
