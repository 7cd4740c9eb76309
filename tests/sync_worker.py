"""Trains all cases of `sync_cases` on the workers of a job; run by the tests.

Usage: sync_worker.py OUT

Writes what came out, or the traceback of what failed, to OUT.0, OUT.1, ... At last the
workers train with settings of their own, which must fail.
"""

import os
import pathlib
import pickle
import sys
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(out):
    import tfdist

    strategy = tfdist.MultiWorkerMirroredStrategy()
    import keras
    import sync_cases

    results = {}
    for name in sync_cases.CASES:
        try:
            results[name] = sync_cases.train(name, strategy)
        except Exception:
            results[name] = traceback.format_exc()
    for name, callback in sync_cases.of_worker(tfdist.rank()).items():
        try:
            with strategy.scope():
                model = sync_cases.build(strategy, keras.optimizers.SGD(0.05))
            sync_cases.fit(model, callback)
            results[name] = "it trained"
        except RuntimeError as error:
            results[name] = str(error)
    pathlib.Path(f"{out}.{tfdist.rank()}").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
