"""Trains with each gradient-sync callback and is killed on the way; run by the tests.

Usage: gradient_sync_worker.py STRATEGY DIRECTORY OUT KILLS

As `checkpoint_worker.py`; KILLS is a JSON list of `[rank, algorithm, where, number]`,
one for each start: that worker kills itself at that step ("step"), or at the end of
that epoch before it is saved ("epoch"), counted from the beginning of the training.
"""

import json
import os
import pathlib
import pickle
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(strategy_name, directory, out, kills):
    import tensorflow as tf
    from equality_worker import make_strategy

    import tfdist

    strategy = make_strategy(strategy_name, 2 if strategy_name == "mirrored" else 1)
    tf.config.experimental.enable_op_determinism()
    import checkpoint_cases as cases
    import keras

    start = int(os.environ.get("TFDIST_RESTART_COUNT", "0"))
    kill = dict(enumerate(json.loads(kills))).get(start)

    class Clock(keras.callbacks.Callback):
        """Notes each step, and kills this worker where it shall."""

        def __init__(self, algorithm):
            super().__init__()
            self.algorithm = algorithm

        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations)
            if tfdist.is_chief():
                with open(f"{out}.steps", "a") as file:
                    file.write(json.dumps([start, self.algorithm, step]) + "\n")
            self.die_at("step", step)

        def on_epoch_end(self, epoch, logs=None):
            self.die_at("epoch", epoch + 1)

        def die_at(self, where, number):
            if kill == [tfdist.rank(), self.algorithm, where, number]:
                os.kill(os.getpid(), 9)

    callbacks = {
        "LocalSGD": lambda: tfdist.callbacks.LocalSGD(4, slow_momentum=0.5),
        "DiLoCo": lambda: tfdist.callbacks.DiLoCo(4, fragments=2),
        "PartialSync": lambda: tfdist.callbacks.PartialSync(2, 4),
    }
    results = {}
    for name, make in callbacks.items():
        kept = f"{directory}/worker-{tfdist.rank()}/{name}"
        results[name] = cases.train(kept, strategy, clock=Clock(name), sync=make(), epochs=3)
    pathlib.Path(f"{out}.{tfdist.rank()}").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
