"""Trains equality cases in this process and saves what came out; run by the tests.

Usage: equality_worker.py STRATEGY LOGICAL_DEVICES OUT FLOATX ... [+FLOATX CASE ...]

STRATEGY is none, mirrored, multi, stock_mirrored or stock_multi. Trains all
cases for each FLOATX, and the named ones for a +FLOATX.
"""

import json
import os
import pickle
import sys
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import devices
import tensorflow as tf


def make_strategy(name, logical_devices):
    devices.split(logical_devices)
    mine = devices.PAIR[:logical_devices]
    if name == "none":
        return None
    if name == "stock_mirrored":
        return tf.distribute.MirroredStrategy(mine)
    if name == "stock_multi":
        return tf.distribute.MultiWorkerMirroredStrategy()
    import tfdist

    if name == "mirrored":
        return tfdist.MirroredStrategy(mine)
    return tfdist.MultiWorkerMirroredStrategy()


def main(strategy_name, logical_devices, out, *trainings):
    strategy = make_strategy(strategy_name, int(logical_devices))
    import equality_cases

    to_train, floatx = [], None
    for word in trainings:
        if floatx is not None:
            to_train.append((word, floatx))
        elif word.startswith("+"):
            floatx = word[1:]
        else:
            to_train += [(name, word) for name in equality_cases.CASES]
    results = {}
    for name, floatx in to_train:
        try:
            results[name, floatx] = equality_cases.train(name, strategy, floatx)
        except Exception as error:
            if not strategy_name.startswith("stock"):
                traceback.print_exc()
            results[name, floatx] = f"{type(error).__name__}: {str(error)[:200]}"
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    with open(f"{out}.{config.get('task', {}).get('index', 0)}", "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
