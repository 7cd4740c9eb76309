"""Trains equality cases in this process and notes what came out, one after the other.

Usage: equality_worker.py STRATEGY LOGICAL_DEVICES OUT [CASE ...]

STRATEGY is none, mirrored, multi, servers, stock_mirrored or stock_multi. A CASE is a type and
a name, "float64 mask". `gangs.read` reads what is noted in OUT.INDEX.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import devices
import gangs
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
    from tfdist.sync.staleness import Asynchrony

    if name == "mirrored":
        return tfdist.MirroredStrategy(mine)
    if name == "servers":
        strategy = tfdist.ParameterServerStrategy()
        # One step after the other, as with `AsyncSGD(max_staleness=0)` in each `fit`.
        strategy.asynchrony = Asynchrony(max_staleness=0)
        return strategy
    return tfdist.MultiWorkerMirroredStrategy()


def main(strategy_name, logical_devices, out, *cases):
    strategy = make_strategy(strategy_name, int(logical_devices))
    import equality_cases

    def train(case):
        floatx, _, name = case.partition(" ")
        return equality_cases.train(name, strategy, floatx)

    gangs.work(strategy_name, out, cases, train)


if __name__ == "__main__":
    main(*sys.argv[1:])
