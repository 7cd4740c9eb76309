"""Trains cases of `sync_cases` in this process and notes what came out, one after the other.

Usage: sync_worker.py multi LOGICAL_DEVICES OUT [CASE ...]

Beside `sync_cases.CASES` a case may be one of `sync_cases.of_worker`, where the workers train
with settings of their own, which must fail: then what was said is noted. `gangs.read` reads
what is noted in OUT.INDEX.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gangs
from equality_worker import make_strategy


def main(strategy_name, logical_devices, out, *cases):
    strategy = make_strategy(strategy_name, int(logical_devices))
    import keras
    import sync_cases

    import tfdist

    own = sync_cases.of_worker(tfdist.rank())

    def train(name):
        if name in sync_cases.CASES:
            return sync_cases.train(name, strategy)
        with strategy.scope():
            model = sync_cases.build(strategy, keras.optimizers.SGD(0.05))
        try:
            sync_cases.fit(model, own[name])
        except RuntimeError as error:
            return {"said": str(error)}
        return "it trained"

    gangs.work(strategy_name, out, cases, train)


if __name__ == "__main__":
    main(*sys.argv[1:])
